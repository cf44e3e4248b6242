import pytest

from keras_resnet.utils.statistics import mean_interval, welch_interval, wilson_interval
from tests.helpers import refused


# By hand: 10 of 100, z = 2: center (0.1 + 0.02) / 1.04, half width 2 sqrt(0.0009 + 0.0001) / 1.04.
def test_against_hand_values():
    assert wilson_interval(0.1, 100, z=2) == pytest.approx((0.0545708, 0.1761985), abs=1e-6)
    # 0 of 4 at z = 2 is [0, 4 / 8]; 4 of 4 mirrors it.
    assert wilson_interval(0.0, 4, z=2) == pytest.approx((0.0, 0.5))
    assert wilson_interval(1.0, 4, z=2) == pytest.approx((0.5, 1.0))
    # Newcombe's table of 1998: 81 of 263 is 0.2553 to 0.3662.
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(("share", "count", "named"), [(1.1, 9, "share=1.1"), (0.5, 0, "count=0")])
def test_wrong_arguments(share, count, named):
    with refused(named):
        wilson_interval(share, count)


def test_students_interval():
    # Of two degrees of freedom, the quantile is 4.302653: 2 +- 4.302653 / sqrt(3).
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((-0.4841377, 4.4841377))
    assert mean_interval([1.0, 1.0]) == (1.0, 1.0)
    assert mean_interval([1.0]) is None


def test_welchs_interval_equals_scipys():
    stats = pytest.importorskip("scipy.stats")
    first, second = [1.0, 2.0, 4.0], [9.0, 9.5, 7.0, 30.0]
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert welch_interval(first, second) == pytest.approx(tuple(expected))
    assert welch_interval([3.0, 3.0], [1.0, 1.0]) == (2.0, 2.0)
    assert welch_interval([1.0], second) is None
