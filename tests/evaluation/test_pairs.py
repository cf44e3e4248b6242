import math

import numpy as np
import pytest

from keras_resnet.evaluation import compare_on_images
from tests.evaluation.test_results import evaluation_of
from tests.helpers import refused


def evaluation_with(hits, **others):
    labels = np.zeros(len(hits), int)
    return evaluation_of(labels, [[0, 1] if hit else [1, 0] for hit in hits], **others)


def test_counts_and_exact_test():
    both, first_only, second_only, neither = 10, 2, 9, 4
    first = [1] * (both + first_only) + [0] * (second_only + neither)
    second = [1] * both + [0] * first_only + [1] * second_only + [0] * neither
    found = compare_on_images(
        evaluation_with(first, models=("a",)), evaluation_with(second, models=("b", "c"))
    )
    assert found.models == ("a", "b + c") and found.images == 25
    assert (found.first_only, found.second_only) == (2, 9)
    assert found.errors == pytest.approx((13 / 25, 6 / 25))
    assert found.difference == pytest.approx(7 / 25)
    # Of 11 tosses 2 or fewer, on either side: 2 (1 + 11 + 55) / 2^11.
    assert found.p_value == pytest.approx(2 * 67 / 2048)
    half = 1.96 * math.sqrt(2.5 + 9.5 - 49 / 27) / 27
    assert found.interval_95 == pytest.approx((7 / 27 - half, 7 / 27 + half))
    assert "+28.00" in str(found) and "p = 0.0654" in str(found)


def test_p_value_equals_scipys():
    stats = pytest.importorskip("scipy.stats")
    for first_only, second_only in ((0, 0), (3, 3), (0, 8), (300, 380)):
        first = [1] * first_only + [0] * second_only
        second = [0] * first_only + [1] * second_only
        found = compare_on_images(evaluation_with([1, *first]), evaluation_with([1, *second]))
        tosses = first_only + second_only
        expected = stats.binomtest(first_only, tosses).pvalue if tosses else 1.0
        assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_other_images_are_refused():
    first = evaluation_with([1, 0])
    with refused("second"):
        compare_on_images(first, evaluation_with([1, 0, 1]))
    with refused("second"):
        compare_on_images(first, evaluation_with([1, 0], split="train"))
