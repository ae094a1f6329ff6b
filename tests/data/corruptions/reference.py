"""The corruptions as their authors define them, image by image, in numpy and scipy alone.

Written from the definitions of make_cifar_c.py (Hendrycks & Dietterich 2019); what is random comes
from outside. Images are float64 (H, W, C) in [0, 1].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.fft import dctn, idctn

Array = NDArray[Any]


def smooth(image: Array, sigma: float, mode: str = "nearest", truncate: float = 4.0) -> Array:
    return np.stack(
        [
            ndimage.gaussian_filter(channel, sigma, mode=mode, truncate=truncate)
            for channel in np.moveaxis(image, -1, 0)
        ],
        -1,
    )


def gaussian_noise(x: Array, c: float, normal: Array) -> Array:
    return x + c * normal


def shot_noise(x: Array, c: float, counted: Array) -> Array:
    return counted / c


def impulse_noise(x: Array, c: float, hit: Array, salt: Array) -> Array:
    out = x.copy()
    out[(hit <= c) & (salt <= 0.5)] = 1
    out[(hit <= c) & (salt > 0.5)] = 0
    return out


def defocus_blur(x: Array, c: tuple[float, float]) -> Array:
    radius, sigma = c
    line = np.arange(-8, 9)
    across, down = np.meshgrid(line, line)
    disk = (across**2 + down**2 <= radius**2).astype(float)
    disk /= disk.sum()
    taps = np.exp(-(np.array([-1.0, 0.0, 1.0]) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    kernel = ndimage.correlate(disk, np.outer(taps, taps), mode="mirror")
    return np.stack(
        [ndimage.correlate(x[..., d], kernel, mode="mirror") for d in range(x.shape[-1])], -1
    )


def glass_blur(x: Array, c: tuple[float, int], shifts: Array) -> Array:
    """The published loop, views and all."""
    sigma, iterations = c
    image = np.uint8(smooth(x, sigma) * 255 + 1e-9)
    height, width = image.shape[:2]
    for i in range(iterations):
        for h in range(height - 1, 1, -1):
            for w in range(width - 1, 1, -1):
                dy, dx = shifts[i, :, h, w]
                h_prime, w_prime = h + dy, w + dx
                image[h, w], image[h_prime, w_prime] = image[h_prime, w_prime], image[h, w]
    return smooth(image / 255.0, sigma)


def imagemagick_motion_blur(image: Array, radius: int, sigma: float, angle: float) -> Array:
    width = 2 * radius + 1
    kernel = [math.exp(-(i * i) / (2 * sigma * sigma)) for i in range(width)]
    total = sum(kernel)
    point = (width * math.sin(math.radians(angle)), width * math.cos(math.radians(angle)))
    length = math.hypot(*point)
    rows, columns = image.shape[:2]
    out = np.zeros_like(image)
    for i in range(width):
        down = math.ceil(i * point[0] / length - 0.5)
        right = math.ceil(i * point[1] / length - 0.5)
        for row in range(rows):
            for column in range(columns):
                source = (
                    min(max(row + down, 0), rows - 1),
                    min(max(column + right, 0), columns - 1),
                )
                out[row, column] += kernel[i] / total * image[source]
    return out


def motion_blur(x: Array, c: tuple[int, float], angle: Array) -> Array:
    return imagemagick_motion_blur(x, *c, float(angle))


def clipped_zoom(image: Array, factor: float) -> Array:
    size = image.shape[0]
    crop = int(np.ceil(size / factor))
    top = (size - crop) // 2
    zoomed = ndimage.zoom(image[top : top + crop, top : top + crop], (factor, factor, 1), order=1)
    trim = (zoomed.shape[0] - size) // 2
    return zoomed[trim : trim + size, trim : trim + size]


def zoom_blur(x: Array, end: float) -> Array:
    factors = np.arange(1, end, 0.01)
    return (x + sum(clipped_zoom(x, factor) for factor in factors)) / (len(factors) + 1)


def snow(x: Array, c: Any, normal: Array, angle: Array) -> Array:
    mean, deviation, zoom, threshold, radius, sigma, share = c
    layer = clipped_zoom(mean + deviation * normal, zoom)
    layer[layer < threshold] = 0
    layer = np.floor(np.clip(layer, 0, 1) * 255 + 1e-9) / 255
    layer = np.round(imagemagick_motion_blur(layer, radius, sigma, float(angle)) * 255) / 255
    grey = x @ np.array([0.299, 0.587, 0.114])
    x = share * x + (1 - share) * np.maximum(x, grey[..., None] * 1.5 + 0.5)
    return x + layer + np.rot90(layer, k=2)


def plasma_fractal(wibbles: Array, decay: float) -> Array:
    """Diamond-square, point by point."""
    size = len(wibbles)
    points = np.zeros((size, size))
    step, wibble = size, 100.0
    while step >= 2:
        half = step // 2

        def set_from(row: int, column: int, around: list[tuple[int, int]], reach: float) -> None:
            total = sum(points[r % size, c % size] for r, c in around)
            points[row, column] = total / 4 + reach * wibbles[row, column]

        reach = wibble * wibble
        for r in range(0, size, step):
            for c in range(0, size, step):
                corners = [(r, c), (r + step, c), (r, c + step), (r + step, c + step)]
                set_from(r + half, c + half, corners, reach)
        for r in range(0, size, step):
            for c in range(0, size, step):
                edges = [(r - half, c + half), (r + half, c + half), (r, c), (r, c + step)]
                set_from(r, c + half, edges, reach)
        for r in range(0, size, step):
            for c in range(0, size, step):
                edges = [(r + half, c - half), (r + half, c + half), (r, c), (r + step, c)]
                set_from(r + half, c, edges, reach)
        step, wibble = half, wibble / decay
    points -= points.min()
    return points / points.max()


def fog(x: Array, c: tuple[float, float], wibbles: Array) -> Array:
    strength, decay = c
    brightest = x.max()
    cloud = plasma_fractal(wibbles, decay)[..., None]
    return (x + strength * cloud) * brightest / (brightest + strength)


def brightness(x: Array, c: float) -> Array:
    """Through hue, saturation and value, by matplotlib's conversion."""
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    hsv = rgb_to_hsv(x)
    hsv[..., 2] = np.clip(hsv[..., 2] + c, 0, 1)
    return np.asarray(hsv_to_rgb(hsv))


def contrast(x: Array, c: float) -> Array:
    means = x.mean(axis=(0, 1), keepdims=True)
    return (x - means) * c + means


def elastic_transform(x: Array, c: tuple[float, float, float], field: Array, pts: Array) -> Array:
    size = x.shape[0]
    alpha, sigma, affine = (size * value for value in c)
    centre, square = np.array([size // 2, size // 2]), size // 3
    before = np.array(
        [centre + square, [centre[0] + square, centre[1] - square], centre - square], float
    )
    after = before + affine * pts
    # x' = A x + b from three pairs, inverted.
    matrix = np.linalg.lstsq(np.c_[before, np.ones(3)], after, rcond=None)[0]
    linear, shift = matrix[:2].T, matrix[2]
    column, row = np.meshgrid(np.arange(size), np.arange(size))
    places = np.stack([column - shift[0], row - shift[1]], -1) @ np.linalg.inv(linear).T
    warped = np.stack(
        [
            ndimage.map_coordinates(x[..., d], [places[..., 1], places[..., 0]], order=1,
                                    mode="mirror")
            for d in range(x.shape[-1])
        ],
        -1,
    )  # fmt: skip
    dx, dy = (
        ndimage.gaussian_filter(part, sigma, mode="reflect", truncate=3) * alpha for part in field
    )
    return np.stack(
        [
            ndimage.map_coordinates(warped[..., d], [row + dy, column + dx], order=1,
                                    mode="reflect")
            for d in range(x.shape[-1])
        ],
        -1,
    )  # fmt: skip


def _pillow(x: Array) -> Image.Image:
    return Image.fromarray(np.uint8(np.round(x * 255)))


def pixelate(x: Array, c: float) -> Array:
    size = x.shape[0]
    small = _pillow(x).resize((int(size * c),) * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((size, size), Image.Resampling.BOX)) / 255.0


LUMA = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
CHROMA = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *[[99] * 8] * 4,
]
"""Annex K of ITU-T T.81."""
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def jpeg_compression(x: Array, quality: int) -> Array:
    """Blocks of 8x8, cosine transform, the standard's tables; colours averaged over 2x2 pixels."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    planes = np.round(np.round(x * 255) @ TO_YCC.T)
    planes[..., 0] -= 128
    size = len(x)
    four = planes[..., 1:].reshape(size // 2, 2, size // 2, 2, 2).sum((1, 3))
    small = np.floor((four + 1 + np.arange(size // 2)[:, None] % 2) / 4)  # libjpeg's rounding
    out = np.empty_like(planes)
    tables = [np.clip(np.floor((np.array(t) * scale + 50) / 100), 1, 255) for t in (LUMA, CHROMA)]
    out[..., 0] = _quantised(planes[..., 0], tables[0]) + 128
    for place in (0, 1):
        coarse = _quantised(small[..., place], tables[1])
        # As libjpeg: 3/4 of the nearer, 1/4 of the further.
        at = np.clip((np.arange(size) - 0.5) / 2, 0, size // 2 - 1)
        grid = np.meshgrid(at, at, indexing="ij")
        out[..., 1 + place] = ndimage.map_coordinates(coarse, grid, order=1, mode="nearest")
    return np.round(np.clip(out @ np.linalg.inv(TO_YCC).T, 0, 255)) / 255


def _quantised(plane: Array, table: Array) -> Array:
    out = np.empty_like(plane)
    for row in range(0, len(plane), 8):
        for column in range(0, len(plane), 8):
            block = dctn(plane[row : row + 8, column : column + 8], norm="ortho")
            block = np.round(block / table) * table
            out[row : row + 8, column : column + 8] = np.round(idctn(block, norm="ortho"))
    return out
