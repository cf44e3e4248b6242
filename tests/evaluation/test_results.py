import json

import numpy as np
import pytest

from keras_resnet.evaluation import Evaluation, SingleCrop, TenCrop


def evaluation_of(labels, ranking, classes=7, **others):
    labels, ranking = np.array(labels), np.array(ranking)
    of = {"models": ("net",), "dataset": "noise", "split": "test", "average": "softmax"}
    of |= {"class_names": tuple("abcdefg"[:classes]), "protocol": TenCrop(9), **others}
    indices, scores = np.arange(len(labels)), np.linspace(0.5, 0.9, len(labels))
    found = {"indices": indices, "labels": labels, "ranking": ranking, "scores": scores}
    return Evaluation(**of, **found, left_out=1, seconds=2.0)


@pytest.fixture
def known():
    """Five images: three are right, one is among the best five and one is not."""
    return evaluation_of(
        [0, 0, 1, 2, 6],
        [[0, 1, 2, 3, 4], [0, 2, 1, 3, 4], [0, 6, 5, 4, 1], [2, 0, 1, 3, 4], [1, 2, 3, 4, 5]],
    )


def test_errors(known):
    assert known.count == 5 and known.images_per_second == 2.5
    assert known.top1_error == pytest.approx(2 / 5)
    assert known.top5_error == pytest.approx(1 / 5)


def test_the_rate_is_of_the_batches_after_the_first():
    labels, ranking = 5 * [0], 5 * [[0, 1, 2, 3, 4]]
    steady = evaluation_of(labels, ranking, first_batch=(2, 1.5))
    assert steady.images_per_second == pytest.approx(3 / 0.5)
    assert "without the first batch" in steady.metrics()["images_per_second_note"]
    assert str(steady).endswith("; 6 images/s")
    single = evaluation_of(labels, ranking, first_batch=(5, 1.9))
    assert single.images_per_second == 2.5
    assert "of one batch" in single.metrics()["images_per_second_note"]
    assert "of one batch" in str(single)


def test_no_top5_error_of_five_classes():
    assert evaluation_of([0], [[1, 0, 2, 3, 4]], classes=5).top5_error is None
    assert evaluation_of([5], [[1, 0, 2, 3, 4]], classes=6).top5_error == 1


def test_confusion(known):
    expected = np.zeros((7, 7), int)
    expected[0, 0], expected[1, 0], expected[2, 2], expected[6, 1] = 2, 1, 1, 1
    np.testing.assert_array_equal(known.confusion, expected)


def test_table_by_class(known):
    rows = known.per_class()
    assert [row["images"] for row in rows] == [2, 1, 1, 0, 0, 0, 1]
    assert [row.get("error") for row in rows] == [0, 1, 0, None, None, None, 1]
    assert [row.get("top5_error") for row in rows] == [0, 0, 0, None, None, None, 1]
    assert rows[0]["precision"] == pytest.approx(2 / 3) and rows[1]["precision"] == 0
    assert rows[1]["taken_for"] == "a" and rows[6]["taken_for"] == "b"
    assert "taken_for" not in rows[0] and rows[6]["taken_for_share"] == 1
    # 0 of 2 at z = 1.96: the upper end is z^2 / (2 + z^2).
    assert (rows[0]["low"], rows[0]["high"]) == (0, pytest.approx(0.65762, abs=1e-5))


def test_predictions_are_rows_of_numbers(known):
    rows = known.predictions()
    assert rows[3] == {
        **{"index": 3, "label": 2, "score": pytest.approx(0.8)},
        **{"top1": 2, "top2": 0, "top3": 1, "top4": 3, "top5": 4},
    }


def test_metrics_say_what_was_measured_and_are_json(known):
    metrics = json.loads(json.dumps(known.metrics()))
    assert metrics["protocol"] == {"name": "ten-crop", "resize": 9}
    assert metrics["models"] == ["net"] and metrics["split"] == "test"
    assert (metrics["images"], metrics["left_out"]) == (5, 1)
    assert metrics["top1_error"] == pytest.approx(0.4)
    # By hand: (0.4 + 0.38416) / 1.76832 -+ 1.96 sqrt(0.048 + 0.038416) / 1.76832.
    assert metrics["top1_error_interval_95"] == pytest.approx([0.11762, 0.76928], abs=1e-5)


def test_str_is_one_line(known):
    line = str(known)
    assert "\n" not in line and "40.00 %" in line and "10 crops" in line
    assert "crops" not in str(evaluation_of([0], [[0, 1, 2, 3, 4]], protocol=SingleCrop()))
