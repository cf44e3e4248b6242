"""The rules of the ledger, on fabricated records with known verdicts."""

import dataclasses

import pytest

from keras_resnet.experiment.ledger.budgets import BUDGETS
from keras_resnet.experiment.ledger.paper import Claim
from keras_resnet.experiment.ledger.rules import comparable, judge, summarize
from tests.experiment.ledger.fabricated import VERSIONS, record, records

CLAIM = Claim("ResNet20", "PlainNet20", "test_error")


def judged(lower, higher, claim=CLAIM):
    runs, left_out = comparable(records(ResNet20=lower, PlainNet20=higher), BUDGETS["digits"])
    assert not left_out
    return judge(claim, runs)


@pytest.mark.parametrize(
    ("lower", "higher", "verdict"),
    [
        ((10, 11, 12), (20, 21, 22), "reproduced"),
        ((20, 21, 22), (10, 11, 12), "not reproduced"),
        ((10, 11, 12), (10, 12, 13), "undecided"),
        ((10, 11, 12), (10, 30, 80), "undecided"),  # of the right sign, and too scattered
        ((10, 11, 12), (20, 21), "too few seeds"),
        ((10,), (20, 21, 22), "too few seeds"),
        ((), (20, 21, 22), "too few seeds"),
        ((10, 10, 10), (20, 20, 20), "reproduced"),  # no spread at all
        ((10, 10, 10), (10, 10, 10), "undecided"),
    ],
)
@pytest.mark.parametrize("figure", ["test_error", "train_error", "response"])
def test_verdicts(lower, higher, verdict, figure):
    found = judged(lower, higher, dataclasses.replace(CLAIM, figure=figure))
    assert found.verdict == verdict
    assert found.seeds == (len(lower), len(higher))


def test_difference_and_interval_are_welchs():
    found = judged((10, 11, 12), (20, 22, 24, 26))
    # By hand: squared errors of the means 1 / 3 and 5 / 3, about 4.1 degrees of freedom.
    assert found.difference == pytest.approx(0.12)
    squares = (1 / 3, 20 / 3 / 4)
    freedom = sum(squares) ** 2 / (squares[0] ** 2 / 2 + squares[1] ** 2 / 3)
    assert freedom == pytest.approx(4.1, abs=0.1)
    half = 2.76 * sum(squares) ** 0.5 / 100
    assert found.interval_95 == pytest.approx((0.12 - half, 0.12 + half), abs=5e-4)


def test_paired_test_pools_the_seeds_of_both():
    found = judged((10, 10, 10, 0), (14, 14, 14)).paired
    assert found.models == ("ResNet20", "PlainNet20") and found.images == 300
    assert (found.first_only, found.second_only) == (12, 0)
    assert found.p_value == pytest.approx(2 / 2**12)
    assert judged((10, 10), ()).paired is None
    assert judged((10,), (10,), dataclasses.replace(CLAIM, figure="train_error")).paired is None


def test_summary_of_seeds():
    found = summarize({r.seed: r for r in records(ResNet20=(10, 12, 14))}, "test_error")
    assert found.mean == pytest.approx(0.12) and found.deviation == pytest.approx(0.02)
    # Student's t of 2 degrees of freedom at 97.5 %: 4.3027.
    half = 4.3027 * 0.02 / 3**0.5
    assert found.interval_95 == pytest.approx((0.12 - half, 0.12 + half), abs=1e-5)
    alone = summarize({0: record("ResNet20", 0, 10)}, "test_error")
    assert (alone.deviation, alone.interval_95) == (None, None)
    assert summarize({0: record("ResNet20", 0, 10, responses=[])}, "response") is None


def test_what_cannot_be_compared_is_left_out_and_said():
    budget = BUDGETS["digits"]
    usual = records(ResNet20=(10, 11))
    longer = record("ResNet20", 2, 9, settings={**usual[0].settings, "seed": 2, "epochs": 99})
    elsewhere = record("ResNet20", 3, 9, data="other")
    fashion = record("ResNet20", 0, 50, "fashion")
    runs, left_out = comparable([*usual, longer, elsewhere, fashion], budget)
    assert [one.wrong for one in runs["ResNet20"].values()] == [10, 11]
    assert len(left_out) == 2
    assert longer.hash in left_out[0] and "settings" in left_out[0]
    assert elsewhere.hash in left_out[1] and "data" in left_out[1]


def test_the_last_of_several_versions_counts():
    newer = record("ResNet20", 0, 5, versions={**VERSIONS, "keras_resnet": "2"})
    runs, _ = comparable([*records(ResNet20=(10, 11)), newer], BUDGETS["digits"])
    assert {seed: one.wrong for seed, one in runs["ResNet20"].items()} == {0: 5, 1: 11}
