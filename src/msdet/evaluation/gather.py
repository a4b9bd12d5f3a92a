"""Serializes detections and batch-norm statistics to gather them from several ranks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from msdet.ops.postprocess import Detections
from msdet.runtime.start import Runtime

# Replaces the number of detections of an image that could not be read.
_UNREADABLE = -1


def pack_detections(detections: Iterable[tuple[int, Detections | None]]) -> bytes:
    """Serializes the detections of a rank's images without loss.

    Args:
        detections: (index in the dataset, detections, or None if the image could not be read).
    """
    parts = []
    for index, found in detections:
        if found is None:
            parts.append(np.array([index, _UNREADABLE], np.int32).tobytes())
            continue
        numbers = np.concatenate((found.boxes, found.scores[:, None]), 1).astype(np.float32, copy=False)
        parts += [np.array([index, len(found)], np.int32).tobytes(), numbers.tobytes()]
        parts.append(found.labels.astype(np.int32, copy=False).tobytes())
    return b"".join(parts)


def unpack_detections(shares: Sequence[bytes]) -> Iterator[tuple[int, Detections | None]]:
    """Inverts `pack_detections`; yields the images of all ranks in order of their index."""
    places = sorted((index, share, start, count) for share in range(len(shares)) for index, start, count
                    in _headers(shares[share]))  # fmt: skip
    for index, share, start, count in places:
        if count == _UNREADABLE:
            yield index, None
            continue
        numbers = np.frombuffer(shares[share], np.float32, 5 * count, start).reshape(count, 5)
        labels = np.frombuffer(shares[share], np.int32, count, start + 20 * count)
        yield index, Detections(numbers[:, :4].copy(), numbers[:, 4].copy(), labels.copy())


def _headers(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields index in the dataset, offset of the values in the bytes, and number of detections of each image."""
    start = 0
    while start < len(data):
        index, count = np.frombuffer(data, np.int32, 2, start).tolist()
        yield index, start + 8, count
        start += 8 + 24 * max(count, 0)


def with_rank0_statistics(
    weights: Mapping[str, np.ndarray], trainable: Collection[str], runtime: Runtime
) -> dict[str, np.ndarray]:
    """Replaces the batch-norm statistics, which differ between ranks, by those of rank 0.

    Args:
        weights: name -> value on this rank.
        trainable: names of the weights that are equal on all ranks.
        runtime: device and ranks.
    """
    merged = dict(weights)
    names = [name for name in weights if name not in trainable]
    if runtime.group_size > 1 and names:
        data = runtime.gather(b"".join(weights[name].tobytes() for name in names))[0]
        start = 0
        for name in names:
            value = weights[name]
            merged[name] = np.frombuffer(data, value.dtype, value.size, start).reshape(value.shape).copy()
            start += value.nbytes
    return merged
