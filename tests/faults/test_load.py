"""A load of seconds: a server of a small net, killed and started again."""

from __future__ import annotations

import pytest

from tests.faults.load import SIZES, expect, load, make_model, same, write_images

for package in ("starlette", "uvicorn", "python_multipart"):
    pytest.importorskip(package)


@pytest.mark.slow
def test_answers_are_those_of_predict_before_and_after_a_kill(tmp_path):
    images = write_images(tmp_path / "images", side=8, sizes=SIZES[:2])
    model = make_model(tmp_path, "keras", depth=8, side=8)
    expected = expect(model, images)
    assert sum(isinstance(answer, dict) for answer in expected.values()) >= len(images["good"])
    row, found = load(model, expected, tmp_path / "log", seconds=2, clients=4)
    assert found == []
    assert row["wrong"] == row["failed"] == 0
    assert row["images"] > row["requests"] > 10


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ({"labels": ["b", "a"], "probabilities": [0.7, 0.3]}, True),
        ({"labels": ["b", "a"], "probabilities": [0.7001, 0.2999]}, False),
        ({"labels": ["a", "b"], "probabilities": [0.7, 0.3]}, False),
        ({"labels": ["a", "b"], "probabilities": [0.3, 0.7]}, False),  # Not best first.
        ({"labels": ["b"], "probabilities": [0.7]}, False),
        ({"error": "truncated"}, False),
    ],
)
def test_same(answer, right):
    assert same({"a": 0.3, "b": 0.7}, answer) == right


def test_same_refusal():
    refusal = "`images` must be whole files. Received: 'x', which is truncated"
    assert same(refusal, {"error": "truncated"})
    assert not same(refusal, {"error": "zero-byte"})
    assert not same(refusal, {"labels": ["a"], "probabilities": [1.0]})
