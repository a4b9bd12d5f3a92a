"""Mosaic augmentation: one training image from four (Bochkovskiy et al., YOLOv4, 2020, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msdet.data.transforms.augment import LabelledImage, SampleSource, Window
from msdet.data.transforms.resize import resize_into, size_of

# Left, top, right, bottom of a tile in the canvas.
Tile = tuple[int, int, int, int]


@dataclass(frozen=True)
class Mosaic:
    """Wraps a sample source: with probability `p` a sample becomes a square mosaic of four images around a random
    centre, otherwise it stays a single image.

    Each image is resized with its aspect ratio kept until it covers its tile, then cropped at a random position. Boxes
    are clipped to the visible part. The other three images are sampled from the whole dataset, without repetition if
    it has at least four; any of the four may have no boxes.

    Attributes:
        p: probability of a mosaic.
        side: width and height of the mosaic in pixels.
        cut: range of the mosaic centre, as a fraction of the side.
        interpolation: of the resize.
        min_side: a box must keep more than this many pixels in width and in height, or it is dropped.
    """

    p: float = 0.5
    side: int = 768
    cut: tuple[float, float] = (0.25, 0.75)
    interpolation: str = "linear"
    min_side: float = 1.0

    def __call__(self, samples: SampleSource) -> SampleSource:
        """The source whose samples are mosaics."""
        return _MosaicSamples(self, samples)

    def make(self, samples: SampleSource, index: int, rng: np.random.Generator) -> LabelledImage:
        """Sample `index` alone, or a mosaic of it and three others."""
        if rng.uniform() >= self.p:
            return samples.load(index, rng)
        members = rng.permutation([index, *_others(index, len(samples), rng)])
        x, y = np.round(rng.uniform(*self.cut, 2) * self.side).astype(int).tolist()
        tiles = ((0, 0, x, y), (x, 0, self.side, y), (0, y, x, self.side), (x, y, self.side, self.side))
        canvas = np.empty((self.side, self.side, 3), np.uint8)
        found, classes = [], []
        for member, tile in zip(members.tolist(), tiles, strict=True):
            boxes, labels = self._fill(canvas, tile, samples.load(member, rng), rng)
            found.append(boxes)
            classes.append(labels)
        return canvas, np.concatenate(found), np.concatenate(classes)

    def _fill(
        self, canvas: np.ndarray, tile: Tile, sample: LabelledImage, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Renders a sample into its tile; returns the visible boxes, in canvas pixels, and their labels."""
        image, boxes, labels = sample
        left, top, right, bottom = tile
        height, width = image.shape[:2]
        scale = max((right - left) / width, (bottom - top) / height)
        window = Window(
            (height, width),
            size_of(canvas),
            (*_random_interval(width, (right - left) / scale, rng), left, right),
            (*_random_interval(height, (bottom - top) / scale, rng), top, bottom),
        )
        source = image[window.rows[0] : window.rows[1], window.columns[0] : window.columns[1]]
        resize_into(source, canvas[top:bottom, left:right], self.interpolation)
        moved = np.clip(window.geometry().forward(boxes), tile[:2] * 2, tile[2:] * 2).astype(np.float32)
        kept = ((moved[:, 2:] - moved[:, :2]) > self.min_side).all(axis=1)
        return moved[kept], labels[kept]


@dataclass(frozen=True)
class _MosaicSamples:
    mosaic: Mosaic
    samples: SampleSource

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        return self.mosaic.make(self.samples, index, rng)


def _others(index: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Three samples other than `index`; with repetition if there are fewer than four samples."""
    if count < 4:
        return rng.integers(count, size=3)
    sampled = rng.choice(count - 1, size=3, replace=False)
    return sampled + (sampled >= index)


def _random_interval(length: int, wanted: float, rng: np.random.Generator) -> tuple[int, int]:
    """A random interval of `wanted` pixels (rounded) within `length`: start, end."""
    size = min(max(round(wanted), 1), length)
    start = int(rng.integers(length - size + 1))
    return start, start + size
