"""Rendered sample images for comparing an exported file with its checkpoint."""

from __future__ import annotations

import numpy as np

from msdet.data.synthetic.render import render_image

_LEAST_SIZE = 64


def sample_images(count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rendered images of shapes, the same at each call.

    Args:
        count: N.
        size: (h, w) of the input in px.

    Returns:
        uint8 (N, h, w, 3) RGB, and valid sizes int32 (N, 2): every second image covers three quarters of the width.
    """
    rng = np.random.default_rng(0)
    side = max(*size, _LEAST_SIZE)
    images = np.stack([render_image(rng, side).image[: size[0], : size[1]] for _ in range(count)])
    valid = np.array([[size[0], size[1] if i % 2 == 0 else size[1] * 3 // 4] for i in range(count)], np.int32)
    return np.ascontiguousarray(images), valid
