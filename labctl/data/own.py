"""A user's own images: an npz file, or a folder with a subfolder per class.

No torch or numpy until it is needed.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from labctl.errors import EnvironmentProblem
from labctl.registry.card import DataSpec, Places
from labctl.registry.config import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .examples import Images

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")
SPLITS = ("train", "test")
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class NpzConfig(Config):
    """An npz file with train_images, train_labels, test_images, test_labels."""

    path: str
    """Relative to one of the data folders, or absolute. Images uint8 (N, H, W) or (N, H, W, C)."""
    classes: int = Field(ge=2)
    """Number of classes; labels run from 0."""


class FolderConfig(Config):
    """A folder `train/<class>/*.png` and `test/<class>/*.png`."""

    path: str
    """Relative to one of the data folders, or absolute."""
    size: int = Field(gt=0)
    """Images are resized to size x size pixels, in RGB."""


def missing(config: NpzConfig | FolderConfig, places: Places) -> str | None:
    """Where the files were looked for; None if they are there."""
    if places.find(config.path):
        return None
    looked = ", ".join(dict.fromkeys(str(root / config.path) for root in places.roots))
    return f"looked for {looked}; set LABCTL_DATA or data.path"


def _required(config: NpzConfig | FolderConfig, places: Places) -> Path:
    path = places.find(config.path)
    if path is None:
        raise EnvironmentProblem(f"{config.path} is not there", hint=missing(config, places) or "")
    return path


class _Header(NamedTuple):
    """What an array says of itself before its data begin."""

    shape: tuple[int, ...]
    kind: str
    """`u1` for bytes, as numpy calls it."""


def npz_spec(config: NpzConfig, places: Places) -> DataSpec:
    """Shapes from the headers of the arrays; the version is a digest of the file.

    Raises:
        EnvironmentProblem: no such file.
        ValueError: it is no npz, or lacks an array, or has one of another form.
    """
    path = _required(config, places)
    try:
        headers = {name: _header(path, name) for name in _ARRAYS}
    except (KeyError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # The message of a KeyError is quoted.
        reason = error.args[0] if error.args else "truncated"
        raise ValueError(f"{path}: needs the arrays {', '.join(_ARRAYS)}: {reason}") from None
    for split in SPLITS:
        if fault := _fault(split, headers[f"{split}_images"], headers[f"{split}_labels"]):
            raise ValueError(f"{path}: {fault}")
    train, test = headers["train_images"].shape, headers["test_images"].shape
    if train[1:] != test[1:]:
        raise ValueError(f"{path}: train_images are {train[1:]}, test_images {test[1:]}")
    channels = train[3] if len(train) == 4 else 1
    return DataSpec(
        name=Path(config.path).stem,
        version=_digest([(path.name, path)]),
        inputs="image",
        shape=(channels, train[1], train[2]),
        num_classes=config.classes,
        sizes={"train": train[0], "test": test[0]},
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


def _header(path: Path, name: str) -> _Header:
    from numpy.lib import format as npy

    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        is_first = npy.read_magic(file) == (1, 0)
        read = npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        return _Header(shape, dtype.str.lstrip("<>|="))


def _fault(split: str, images: _Header, labels: _Header) -> str | None:
    if images.kind != "u1":
        return f"{split}_images are {images.kind}, not uint8"
    if len(images.shape) not in (3, 4) or 0 in images.shape:
        return f"{split}_images have shape {images.shape}, not (N, H, W) or (N, H, W, C)"
    if labels.kind[0] not in "iu":
        return f"{split}_labels are {labels.kind}, not integers"
    if labels.shape != images.shape[:1]:
        return f"{split}_labels have shape {labels.shape}, not ({images.shape[0]},) as the images"
    return None


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    """12 hex digits over names and contents."""
    stats = ((name, path, path.stat()) for name, path in files)
    return _digest_of(tuple((name, path, s.st_size, s.st_mtime_ns) for name, path, s in stats))


@lru_cache(maxsize=16)
def _digest_of(files: tuple[tuple[str, Path, int, int], ...]) -> str:
    """Of names, paths, sizes and times of change: read once while these stay as they are."""
    total = hashlib.sha256()
    for name, path, size, _ in files:
        total.update(f"{name}\n{size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()[:12]


def npz_load(config: NpzConfig, places: Places) -> Mapping[str, Images]:
    """Both splits, whole: uint8 (N, C, H, W) and int64 (N,).

    Raises:
        EnvironmentProblem: no such file, or labels outside 0..classes-1.
    """
    import numpy as np
    import torch

    from .examples import Images

    path = _required(config, places)
    splits = {}
    with np.load(path) as arrays:
        for split in SPLITS:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].astype(np.int64)
            if labels.min() < 0 or labels.max() >= config.classes:
                raise EnvironmentProblem(
                    f"{path}: {split}_labels run from {labels.min()} to {labels.max()}, "
                    f"not within 0 to {config.classes - 1}",
                    hint="set data.classes, or mend the labels",
                )
            pixels = torch.from_numpy(images)
            pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
            splits[split] = Images(pixels.contiguous(), torch.from_numpy(labels))
    return splits


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Image files by class, both in order of names; hidden ones are left out."""
    found = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            files = [file for file in entry.iterdir() if file.suffix.lower() in SUFFIXES]
            found[entry.name] = sorted(file for file in files if not file.name.startswith("."))
    return found


def folder_spec(config: FolderConfig, places: Places) -> DataSpec:
    """Classes and counts from the folder's listing; the version is a digest of the files.

    Raises:
        EnvironmentProblem: no such folder.
        ValueError: no images, fewer than two classes, or a test class that training lacks.
    """
    path = _required(config, places)
    splits = {}
    for split in SPLITS:
        if not (path / split).is_dir():
            raise ValueError(f"{path} has no folder {split}/; expected {split}/<class>/*.png")
        splits[split] = _classes(path / split)
        if not any(splits[split].values()):
            raise ValueError(f"{path / split} holds no images; expected <class>/*.png")
    if len(splits["train"]) < 2:
        raise ValueError(f"{path / 'train'} holds one class; a classifier needs two or more")
    if empty := [name for name, files in splits["train"].items() if not files]:
        raise ValueError(f"{path / 'train'}: classes without images: {', '.join(empty)}")
    if extra := splits["test"].keys() - splits["train"].keys():
        raise ValueError(f"{path}: test classes that train lacks: {', '.join(sorted(extra))}")
    files = [file for classes in splits.values() for paths in classes.values() for file in paths]
    return DataSpec(
        name=path.name,
        version=_digest((file.relative_to(path).as_posix(), file) for file in files),
        inputs="image",
        shape=(3, config.size, config.size),
        num_classes=len(splits["train"]),
        sizes={split: sum(map(len, classes.values())) for split, classes in splits.items()},
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )


def folder_load(config: FolderConfig, places: Places) -> Mapping[str, Images]:
    """Both splits, whole, resized with antialiasing: uint8 (N, 3, size, size) and int64 (N,).

    Raises:
        EnvironmentProblem: no such folder, or a file that is no image.
    """
    import numpy as np
    import torch

    from .examples import Images

    path = _required(config, places)
    classes = list(_classes(path / "train"))
    splits = {}
    for split in SPLITS:
        pixels, labels = [], []
        for name, files in _classes(path / split).items():
            pixels += [_pixels(file, config.size) for file in files]
            labels += [classes.index(name)] * len(files)
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
        splits[split] = Images(stacked, torch.tensor(labels))
    return splits


def _pixels(file: Path, size: int) -> NDArray[np.uint8]:
    """uint8 (size, size, 3)."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(file) as image:
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    except (OSError, SyntaxError) as error:  # what Pillow raises over a damaged file
        raise EnvironmentProblem(f"{file} is no image: {error}", hint="remove it") from None
    return np.asarray(resized)
