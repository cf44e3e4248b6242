"""Planted duplicates: what is found of them, and what is found besides."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from keras_resnet.data import Finding, check_data
from keras_resnet.data.duplicates import (
    LEAST_CORRELATION,
    MOST_BITS,
    find_candidates,
    find_pairs,
    fingerprint,
)

from .helpers import encode

SIDE = 107


@pytest.fixture(scope="module")
def tiles(photographs):
    """Parts of the photographs that do not overlap, without those of plain sky."""
    places = itertools.product(range(0, 427 - SIDE + 1, SIDE), range(0, 640 - SIDE + 1, SIDE))
    corners = list(places)
    parts = [p[t : t + SIDE, x : x + SIDE] for p in photographs for t, x in corners]
    return [part for part in parts if part.mean(axis=-1).std() > 12]


def resized(image, side):
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def brighter(image):
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(1.2))


# Change, and the least share of its copies that are found.
CHANGES = {
    "same bytes": (lambda x: encode(x, quality=90), 1.0),
    "quality 50": (lambda x: encode(x, quality=50), 1.0),
    "half": (lambda x: encode(resized(x, SIDE // 2)), 1.0),
    "twice, PNG": (lambda x: encode(resized(x, 2 * SIDE), "PNG"), 1.0),
    "brighter": (lambda x: encode(brighter(x)), 0.9),
    "2 % cropped": (lambda x: encode(np.ascontiguousarray(x[1:-1, 1:-1])), 0.95),
    "4 % cropped": (lambda x: encode(np.ascontiguousarray(x[2:-2, 2:-2])), 0.85),
}


@pytest.fixture(scope="module")
def originals(tiles):
    return [fingerprint(encode(tile, quality=90)) for tile in tiles]


def test_different_pictures_are_no_pairs(originals):
    assert len(originals) > 20 and find_pairs(originals) == []


@pytest.mark.parametrize("change", CHANGES)
def test_precision_and_recall_on_planted_copies(tiles, originals, change):
    write, recall = CHANGES[change]
    pairs = find_pairs(originals + [fingerprint(write(tile)) for tile in tiles])
    right = [pair for pair in pairs if pair.second == pair.first + len(tiles)]
    assert len(right) == len(pairs) and len(right) >= recall * len(tiles)
    if change == "same bytes":
        assert all(pair.correlation is None for pair in pairs)
    else:
        assert all(LEAST_CORRELATION <= pair.correlation <= 1 for pair in pairs)


def test_the_hash_is_the_cosine_transform(tiles):
    fft = pytest.importorskip("scipy.fft")
    one = fingerprint(encode(resized(tiles[0], 32), "PNG", mode="L"))
    gray = np.asarray(Image.fromarray(resized(tiles[0], 32)).convert("L"), float)
    low = fft.dctn(gray, norm="backward")[:8, :8].ravel()
    signs = low > np.median(low[1:])
    signs[0] = False
    # A coefficient in the middle may round to either side.
    expected = int("".join("01"[int(sign)] for sign in signs), 2)
    assert (one.bits ^ expected).bit_count() <= 2
    halves = gray.reshape(16, 2, 16, 2).mean((1, 3)).ravel()
    np.testing.assert_allclose(one.thumbnail, halves, atol=0.51)


def test_candidates_are_those_of_all_comparisons():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 3000, dtype=np.uint64)
    for i in range(600):  # copies that differ in 0 to 11 bits
        flipped = rng.choice(64, i % 12, replace=False)
        bits[2999 - i] = bits[i] ^ np.uint64(sum(1 << int(bit) for bit in flipped))
    near = np.bitwise_count(bits[:, None] ^ bits) <= MOST_BITS
    expected = set(map(tuple, np.argwhere(np.triu(near, 1)).tolist()))
    found = find_candidates(bits).tolist()
    assert found == sorted(found, key=lambda pair: pair[::-1])
    assert set(map(tuple, found)) <= expected and len(found) > 0.99 * len(expected) > 500


def test_plain_pictures_are_told_by_their_bytes_only():
    black, gray, again = (
        fingerprint(encode(np.full((40, 40, 3), value, np.uint8), "PNG")) for value in (0, 128, 0)
    )
    assert [(p.first, p.second, p.correlation) for p in find_pairs([black, gray, again])] == [
        (0, 2, None)
    ]
    assert find_pairs([]) == find_pairs([black]) == []


def test_progress_rises_to_the_number_of_pictures(originals):
    calls = []
    find_pairs(originals, lambda *call: calls.append(call))
    done, total = zip(*calls, strict=True)
    assert set(total) == {len(originals)}
    assert (done[0], done[-1]) == (0, len(originals)) and list(done) == sorted(done)
    assert len(calls) == 66  # the beginning, 64 sorts, and the correlations


def test_leaks_and_two_classes_in_a_folder(tmp_path, tiles):
    files = {
        "train/cat/a.jpg": encode(tiles[0]),
        "train/cat/b.jpg": encode(tiles[0], quality=60),
        "train/dog/c.jpg": encode(tiles[1]),
        "train/dog/d.jpg": encode(tiles[0]),
        "val/cat/e.jpg": encode(tiles[2]),
        "val/dog/f.png": encode(resized(tiles[1], 80), "PNG"),
        "val/dog/g.jpg": b"",
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    done = []
    report = check_data(tmp_path, duplicates=True, progress=lambda *counts: done.append(counts))
    assert done[:7] == [(i, 7) for i in range(1, 8)]
    # Then the search among those that can be read.
    assert (done[7], done[-1]) == ((0, 6), (6, 6))
    found = [(one.fault, one.path, one.original) for one in report.duplicates]
    assert found == [
        ("duplicate", "train/cat/b.jpg", "train/cat/a.jpg"),
        ("two classes", "train/dog/d.jpg", "train/cat/a.jpg"),
        ("leak", "val/dog/f.png", "train/dog/c.jpg"),
    ]
    severities = [(one.fault, one.severity) for one in report.findings]
    assert severities == [
        *(("duplicate", "warning"), ("two classes", "warning"), ("leak", "error")),
        ("zero-byte", "warning"),
    ]
    assert Finding("two classes", "train/dog/d.jpg", "same bytes as train/cat/a.jpg") in (
        report.findings
    )
    assert check_data(tmp_path).duplicates == ()
