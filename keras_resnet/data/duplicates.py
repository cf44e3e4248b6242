"""Finds files that are the same picture, in time n log n. Needs TensorFlow.

Two files with the same SHA-256 are the same picture. Of the others each is told by a perceptual
hash: the signs of the 8 x 8 lowest frequencies of its cosine transform around their median, after
C. Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010). Compression,
another size, brightness and contrast change few bits. Candidates differ in at most `MOST_BITS` of
64 bits; a pair is one where the pictures correlate by `LEAST_CORRELATION`, too, as 16 x 16 pixels
in gray, and are tinted alike by `MOST_TINT`.

Candidates are neighbors when the hashes are sorted, their bits permuted at random and sorted again,
after D. Ravichandran, P. Pantel and E. Hovy, "Randomized algorithms and NLP" (ACL 2005): 64 sorts
find, among 100,000 random hashes, all pairs that differ in 8 bits and 99 % of those in 10; among a
million 99 % and 91 %, in about a minute. Drawings that differ in few strokes, such as handwritten
digits, are taken for one another where their pixels correlate so much.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_resnet.data.decoding import decode_whole
from keras_resnet.data.npy import IMAGE_CHANNELS, gray_of_npy

# Chosen on re-encoded, resized, brightened and cropped copies; see tests/data/test_duplicates.py.
MOST_BITS = 10
LEAST_CORRELATION = 0.95
# Largest difference of a channel's mean from that of the gray, in levels.
MOST_TINT = 24.0
# Standard deviation of the gray of a picture, below which it has nothing to be told by.
_FLAT = 4.0
_SIDE, _FREQUENCIES, _THUMBNAIL = 32, 8, 16
_SORTS, _NEIGHBORS = 64, 8


class Fingerprint(NamedTuple):
    """Features that tell a picture from others.

    Attributes:
        digest: SHA-256 of the file.
        bits: Perceptual hash, a number of 64 bits.
        thumbnail: The picture in gray, uint8 `(256,)`.
        tint: Mean of each channel less that of the gray, float32 `(3,)`.
    """

    digest: bytes
    bits: int
    thumbnail: np.ndarray
    tint: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two pictures that are the same.

    Attributes:
        first: Position of the one that comes first.
        second: Position of the other.
        correlation: Between both in gray, up to 1; None where the files have the same bytes.
    """

    first: int
    second: int
    correlation: float | None = None


def fingerprint(data: bytes, channels: int = 3) -> Fingerprint:
    """Returns the fingerprint of the bytes of a readable image, of so many channels.

    An array of other than 1, 3 and 4 is told by the mean of its channels.

    Raises:
        tf.errors.OpError: If it cannot be read.
    """
    if channels in IMAGE_CHANNELS:
        image = _small(data).numpy()
    else:
        small = tf.image.resize(gray_of_npy(data), [_SIDE, _SIDE], antialias=True)
        image = np.repeat(small.numpy(), 3, axis=-1)
    gray = image @ _LUMA
    spectrum = _COSINES @ gray @ _COSINES.T
    # The first is the mean.
    signs = spectrum.ravel() > np.median(spectrum.ravel()[1:])
    signs[0] = False
    (bits,) = np.packbits(signs).view(">u8")
    halves = gray.reshape(_THUMBNAIL, 2, _THUMBNAIL, 2).mean((1, 3))
    return Fingerprint(
        hashlib.sha256(data).digest(),
        int(bits),
        np.round(halves).astype(np.uint8).ravel(),
        image.mean((0, 1)) - gray.mean(),
    )


def find_pairs(
    fingerprints: Sequence[Fingerprint], progress: Callable[[int, int], None] | None = None
) -> list[Pair]:
    """Returns pairs of the same pictures, sorted: each picture with the first that it is like.

    Args:
        fingerprints: Of the pictures, those first that the others count as copies of.
        progress: Called with the share of the search that is done, as a number of pictures, and
            their number: first with 0, and last with all of them.
    """

    def tell(sorts: int) -> None:
        if progress is not None:
            count = len(fingerprints)
            # The correlations are a step, too.
            progress(count * sorts // (_SORTS + 1), count)

    tell(0)
    pairs = []
    first_of: dict[bytes, int] = {}
    for position, one in enumerate(fingerprints):
        first = first_of.setdefault(one.digest, position)
        if first != position:
            pairs.append(Pair(first, position))
    kept = np.fromiter(first_of.values(), np.int64)
    if len(kept) > 1:
        bits = np.array([fingerprints[i].bits for i in kept], np.uint64)
        thumbnails = np.stack([fingerprints[i].thumbnail for i in kept])
        told = thumbnails.std(axis=1) >= _FLAT
        bits, thumbnails, kept = bits[told], thumbnails[told], kept[told]
        candidates = find_candidates(bits, progress=tell)
        correlations = _correlations(thumbnails, candidates)
        found: dict[int, Pair] = {}
        tints = np.array([fingerprints[i].tint for i in kept]).reshape(-1, 3)
        alike = np.abs(tints[candidates[:, 0]] - tints[candidates[:, 1]]).max(1) <= MOST_TINT
        correlations[~alike] = 0
        for (i, j), correlation in zip(candidates, correlations, strict=True):
            if correlation >= LEAST_CORRELATION and int(kept[j]) not in found:
                pair = Pair(int(kept[i]), int(kept[j]), min(1.0, float(correlation)))
                found[pair.second] = pair
        pairs += found.values()
    tell(_SORTS + 1)
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def find_candidates(
    bits: np.ndarray,
    most_bits: int = MOST_BITS,
    *,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Returns the pairs of positions, `(pairs, 2)`, of hashes that differ in few bits.

    Rows are sorted by the second position and then the first, which is the smaller. A pair may be
    missed, the less likely the fewer bits differ. `progress` is called with the number of sorts
    done.
    """
    rng = np.random.default_rng(0)
    rows = np.unpackbits(bits.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1).T.copy()
    found = np.zeros(0, np.int64)
    count = len(bits)
    for sort in range(_SORTS):
        # With the bits as rows, whole rows are permuted.
        mixed = np.packbits(rows[rng.permutation(64)], axis=0).T.copy().view(">u8").ravel()
        order = np.argsort(mixed.astype(np.uint64), kind="stable")
        ordered = bits[order]
        for distance in range(1, min(_NEIGHBORS, count - 1) + 1):
            near = np.bitwise_count(ordered[distance:] ^ ordered[:-distance]) <= most_bits
            some, other = order[distance:][near], order[:-distance][near]
            found = np.union1d(found, np.maximum(some, other) * count + np.minimum(some, other))
        if progress is not None:
            progress(sort + 1)
    return np.stack([found % max(count, 1), found // max(count, 1)], axis=1)


def _correlations(thumbnails: np.ndarray, pairs: np.ndarray, rows: int = 2**16) -> np.ndarray:
    """Returns the correlation of each pair of thumbnails, some rows at a time."""
    parts = [np.zeros(0)]
    for start in range(0, len(pairs), rows):
        centered = thumbnails[pairs[start : start + rows]].astype(np.float32)
        centered -= centered.mean(axis=-1, keepdims=True)
        centered /= np.linalg.norm(centered, axis=-1, keepdims=True)
        parts.append(np.sum(centered[:, 0] * centered[:, 1], axis=-1))
    return np.concatenate(parts)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _small(encoded: tf.Tensor) -> tf.Tensor:
    """Returns an image of `(32, 32, 3)`, float32."""
    image = decode_whole(encoded, 3, shorter_side=_SIDE)
    return tf.image.resize(image, [_SIDE, _SIDE], antialias=True)


def _cosines(frequencies: int, length: int) -> np.ndarray:
    places = (np.arange(length) + 0.5) / length
    return np.cos(np.pi * np.arange(frequencies)[:, None] * places).astype(np.float32)


# Of gray, as JPEG has it.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_COSINES = _cosines(_FREQUENCIES, _SIDE)
