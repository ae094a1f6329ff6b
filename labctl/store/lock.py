"""A lock on a file that ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from .atomic import storage


class FileLock:
    """An exclusive lock (flock) on `path`, held by this process until released or dead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Take the lock; False if another process holds it for all of `timeout_s`."""
        with storage(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(file)
                    return False
                time.sleep(0.02)
            else:
                self._file = file
                return True

    @property
    def descriptor(self) -> int:
        """The open file that carries the lock; a child that inherits it holds the lock as well."""
        assert self._file is not None, "not acquired"
        return self._file

    def release(self) -> None:
        """Let go, as far as this process is concerned."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> FileLock:
        self.acquire(timeout_s=float("inf"))
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def is_held(path: Path) -> bool:
    """Whether some process holds the lock at `path`. Takes it for an instant to find out."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
