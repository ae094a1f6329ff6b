"""Square patches of images as tokens."""

from __future__ import annotations

from labctl.api import DataSpec


def count_patches(patch_size: int, spec: DataSpec) -> int:
    """Of one image."""
    _, height, width = spec.shape
    return (height // patch_size) * (width // patch_size)


def misfit(patch_size: int, spec: DataSpec) -> str | None:
    """Why images cannot be cut into patches; None if they can."""
    sides = spec.shape[1:]
    if not any(side % patch_size for side in sides):
        return None
    works = [n for n in range(1, min(sides) + 1) if not any(side % n for side in sides)]
    return (
        f"patch_size {patch_size} does not divide the sides {sides[0]}x{sides[1]} of "
        f"{spec.name}; {', '.join(map(str, works))} do"
    )
