"""Times of steps that take turns, so that what slows a machine for seconds slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_resnet.analysis.cost import FEWEST_REPEATS, WARM_UP
from keras_resnet.analysis.defaults import ROUNDS
from keras_resnet.utils import checks


def take_turns(
    steps: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Runs every step once a round, and returns the seconds of each, by round.

    Before the first round each runs twice, which traces and compiles it. A round begins with the
    step after the one that the last round began with: the first may find a cooler processor.

    Raises:
        ValueError: If there are fewer than 3 rounds.
    """
    checks.integer("rounds", rounds, FEWEST_REPEATS)
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    names = list(steps)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            begin = time.perf_counter()
            steps[name]()
            times[name].append(time.perf_counter() - begin)
    return times


def summarize(times: Mapping[str, Sequence[float]], batch_size: int) -> list[dict[str, Any]]:
    """Returns a row for each step of `take_turns`.

    Its `seconds` are the median of a step, between `first_quartile` and `third_quartile`;
    `images_per_second` follow from it; `ratio` is the median over the rounds of the step's time to
    that of the first step in the same round.
    """
    first = next(iter(times.values()))
    rows = []
    for name, own in times.items():
        low, median, high = statistics.quantiles(own, method="inclusive")
        ratios = [one / other for one, other in zip(own, first, strict=True)]
        rows.append(
            {
                "form": name,
                "batch_size": batch_size,
                "seconds": median,
                "first_quartile": low,
                "third_quartile": high,
                "images_per_second": batch_size / median,
                "ratio": statistics.median(ratios),
                "rounds": len(own),
            }
        )
    return rows
