"""The fifteen corruptions by name, with their parameters for 32x32 pixels."""

from __future__ import annotations

from . import blur, digital, noise, weather
from .corruption import Corruption

CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption(
        "gaussian_noise", (0.04, 0.06, 0.08, 0.09, 0.10), noise.gaussian_noise, noise.draw_normal
    ),
    Corruption("shot_noise", (500, 250, 100, 75, 50), noise.shot_noise, noise.draw_poisson),
    Corruption(
        "impulse_noise", (0.01, 0.02, 0.03, 0.05, 0.07), noise.impulse_noise, noise.draw_impulses
    ),
    Corruption(
        "defocus_blur",
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        blur.defocus_blur,
    ),
    Corruption(
        "glass_blur",
        ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)),
        blur.glass_blur,
        blur.draw_shifts,
    ),
    Corruption(
        "motion_blur",
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        blur.motion_blur,
        blur.draw_angle,
    ),
    Corruption("zoom_blur", (1.06, 1.11, 1.16, 1.21, 1.26), blur.zoom_blur),
    Corruption(
        "snow",
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        weather.snow,
        weather.draw_snow,
    ),
    Corruption(
        "frost",
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        weather.frost,
        weather.draw_cloud,
    ),
    Corruption(
        "fog",
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        weather.fog,
        weather.draw_cloud,
    ),
    Corruption("brightness", (0.05, 0.1, 0.15, 0.2, 0.3), weather.brightness),
    Corruption("contrast", (0.75, 0.5, 0.4, 0.3, 0.15), digital.contrast),
    Corruption(
        "elastic_transform",
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        digital.elastic_transform,
        digital.draw_deformation,
    ),
    Corruption("pixelate", (0.95, 0.9, 0.85, 0.75, 0.65), digital.pixelate),
    Corruption("jpeg_compression", (80, 65, 58, 50, 40), digital.jpeg_compression, digital.encode),
)
