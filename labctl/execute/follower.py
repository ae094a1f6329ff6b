"""Reading a journal while it is being written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from labctl.store.journal import Record, record_of, segments
from labctl.store.run import Run


class Follower:
    """The new records of a run, each call those since the last."""

    def __init__(self, run: Run, *, from_now: bool = True) -> None:
        self.run = run
        self._read: dict[Path, int] = {}
        if from_now:
            self._read = {path: path.stat().st_size for path in segments(run.folder)}

    def new(self) -> Iterator[Record]:
        """Records written since the last call; a line still being written waits, a damaged one is
        left out."""
        for path in segments(self.run.folder):
            start = self._read.get(path, 0)
            if path.stat().st_size <= start:
                continue
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read[path] = start + len(whole)
            for line in whole.splitlines():
                if (record := record_of(line, int(path.stem))) is not None:
                    yield record
