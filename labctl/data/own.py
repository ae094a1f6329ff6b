"""A user's own images: an npz file, or a folder with a subfolder per class. No torch until
loaded."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from labctl.registry.card import DataSpec, Places
from labctl.registry.config import Config

if TYPE_CHECKING:
    from .examples import Images

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")
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


def _found(path: str, places: Places) -> Path | None:
    return Path(path) if Path(path).is_absolute() and Path(path).exists() else places.find(path)


def missing(config: NpzConfig | FolderConfig, places: Places) -> str | None:
    """Where the files were looked for; None if they are there."""
    if _found(config.path, places):
        return None
    looked = ", ".join(str(root / config.path) for root in places.roots)
    return f"looked for {looked}; set LABCTL_DATA or data.path"


def _required(config: NpzConfig | FolderConfig, places: Places) -> Path:
    path = _found(config.path, places)
    if path is None:
        raise ValueError(f"{config.path} is not there: {missing(config, places)}")
    return path


def npz_spec(config: NpzConfig, places: Places) -> DataSpec:
    """Shapes from the headers of the arrays; the version is a digest of the file.

    Raises:
        ValueError: a file that is missing, is no npz, or lacks an array.
    """
    path = _required(config, places)
    try:
        shapes = {name: _shape(path, name) for name in _ARRAYS}
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: needs the arrays {', '.join(_ARRAYS)} ({error})") from None
    train = shapes["train_images"]
    channels = train[3] if len(train) == 4 else 1
    return DataSpec(
        name=Path(config.path).stem,
        version=_digest([path]),
        inputs="image",
        shape=(channels, train[1], train[2]),
        num_classes=config.classes,
        sizes={"train": train[0], "test": shapes["test_images"][0]},
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


def _shape(path: Path, name: str) -> tuple[int, ...]:
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        return tuple(read(file)[0])


def _digest(paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()[:12]


def npz_load(config: NpzConfig, places: Places) -> Mapping[str, Images]:
    """Both splits, whole.

    Raises:
        ValueError: images that are not uint8, or labels outside 0..classes-1.
    """
    import torch

    from .examples import Images

    splits = {}
    with np.load(_required(config, places)) as arrays:
        for split in ("train", "test"):
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
            if images.dtype != np.uint8:
                raise ValueError(f"{config.path}: {split}_images are {images.dtype}, not uint8")
            if labels.min() < 0 or labels.max() >= config.classes:
                raise ValueError(
                    f"{config.path}: {split}_labels reach {labels.max()}, "
                    f"beyond {config.classes} classes"
                )
            pixels = torch.from_numpy(images)
            pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
            splits[split] = Images(pixels.contiguous(), torch.from_numpy(labels.astype(np.int64)))
    return splits


def _listed(folder: Path) -> dict[str, list[Path]]:
    """Image files by class, in order of names."""
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return {c.name: sorted(p for p in c.iterdir() if p.suffix.lower() in SUFFIXES) for c in classes}


def folder_spec(config: FolderConfig, places: Places) -> DataSpec:
    """Classes and counts from the folder's listing; the version is a digest of the files.

    Raises:
        ValueError: no such folder, no images, or a test class that training lacks.
    """
    path = _required(config, places)
    splits = {}
    for split in ("train", "test"):
        if not (path / split).is_dir():
            raise ValueError(f"{path} has no folder {split}/; expected {split}/<class>/*.png")
        splits[split] = _listed(path / split)
        if not any(splits[split].values()):
            raise ValueError(f"{path / split} holds no images; expected <class>/*.png")
    if extra := splits["test"].keys() - splits["train"].keys():
        raise ValueError(f"{path}: test classes that train lacks: {', '.join(sorted(extra))}")
    files = [file for listed in splits.values() for paths in listed.values() for file in paths]
    return DataSpec(
        name=Path(config.path).name,
        version=_digest(files),
        inputs="image",
        shape=(3, config.size, config.size),
        num_classes=len(splits["train"]),
        sizes={split: sum(map(len, listed.values())) for split, listed in splits.items()},
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )


def folder_load(config: FolderConfig, places: Places) -> Mapping[str, Images]:
    """Both splits, whole, resized with antialiasing."""
    import torch
    from PIL import Image

    from .examples import Images

    path = _required(config, places)
    classes = list(_listed(path / "train"))
    splits = {}
    for split in ("train", "test"):
        pixels, labels = [], []
        for name, files in _listed(path / split).items():
            for file in files:
                with Image.open(file) as image:
                    resized = image.convert("RGB").resize(
                        (config.size, config.size), Image.Resampling.BICUBIC
                    )
                pixels.append(np.asarray(resized))
                labels.append(classes.index(name))
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
        splits[split] = Images(stacked, torch.tensor(labels))
    return splits
