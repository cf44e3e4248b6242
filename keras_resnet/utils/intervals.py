"""How sure a measured share is."""

from __future__ import annotations

from keras_resnet.utils import checks

# The standard normal deviate of a two-sided 95 % interval.
Z95 = 1.96


def wilson_interval(share: float, count: int, z: float = Z95) -> tuple[float, float]:
    """Returns the interval in which the true share lies, given one that was measured.

    Unlike the usual one of `share` plus and minus something, it also holds for few examples and
    for shares next to 0 and 1. Source: Wilson, "Probable inference, the law of succession, and
    statistical inference", Journal of the American Statistical Association 22 (1927).

    Args:
        share: Measured share, in [0, 1].
        count: How many examples it was measured on, at least 1.
        z: Standard normal deviate of the confidence; 1.96 for 95 %.

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ValueError: If an argument is out of range.
    """
    checks.fraction("share", share, one_allowed=True)
    checks.integer("count", count)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    # Where nothing or everything was hit, rounding would lead out of [0, 1].
    return max(0.0, centre - half), min(1.0, centre + half)
