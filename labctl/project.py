"""The folder that labctl works in, and where it keeps things."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with `recipes/`, `plugins/` and `runs/`, each optional."""

    root: Path

    @classmethod
    def at(cls, root: Path | str | None = None) -> Project:
        """The project at `root`, else at LABCTL_PROJECT, else in the working folder."""
        return cls(Path(root or os.environ.get("LABCTL_PROJECT") or ".").resolve())

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    @property
    def plugins(self) -> Path:
        return self.root / "plugins"

    @property
    def runs(self) -> Path:
        """LABCTL_RUNS moves the runs elsewhere, to a larger disk for instance."""
        return Path(os.environ.get("LABCTL_RUNS") or self.root / "runs").resolve()

    @property
    def results(self) -> Path:
        """Published results, bundles of runs."""
        return self.root / "docs" / "results"

    @property
    def benches(self) -> Path:
        """Published measurements of speed."""
        return self.root / "docs" / "benches"

    @property
    def cache(self) -> Path:
        """The user's, shared by all projects; nothing in it is missed."""
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labctl"

    @property
    def data_roots(self) -> tuple[Path, ...]:
        """Folders searched for data sets, in order: LABCTL_DATA, `data/` here, the user's cache."""
        named = os.environ.get("LABCTL_DATA")
        roots = [Path(named)] if named else []
        return (*roots, self.root / "data", self.cache / "data")

    def keep_compiled(self) -> None:
        """Have compilers keep what they make in the user's cache; to be said before torch is
        imported, which would put a folder that does not last into its place."""
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.cache / "compiled"))

    def shown(self, path: Path) -> str:
        """`path` as the user would type it: relative to the working folder where that is
        shorter."""
        try:
            return str(path.relative_to(Path.cwd()))
        except ValueError:
            return str(path)


def is_file(path: Path) -> bool:
    """Whether there is a file there; of what a user typed, which no file may be named by."""
    try:
        return path.is_file()
    except OSError:  # longer than the file system allows
        return False
