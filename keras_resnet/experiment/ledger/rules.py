"""The rules by which a ledger's runs reproduce a claim of the paper, or do not.

A claim says that one network's figure (test error, training error, or mean response) is below
another's. Seeds are the sample, since another seed is another run, while the test images are always
the same:

- "too few seeds": one of the two has fewer than three seeds.
- "reproduced": the mean over the seeds has the claimed sign, and Welch's 95 % interval of the
  difference of the means excludes zero.
- "not reproduced": the interval excludes zero with the opposite sign.
- "undecided": it includes zero.

Several claims are judged side by side, without a correction for their number: of twenty that are
false in truth, one may be found reproduced or contradicted by chance.

Beside the verdict stands McNemar's test of the two networks on the same test images, pooled over
the seeds that both have. It tells whether *these* trained networks differ, not whether others of
the same kind would, and is no part of the verdict.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from keras_resnet.evaluation.pairs import PairedComparison, compare_hits
from keras_resnet.experiment.ledger.budgets import Budget
from keras_resnet.experiment.ledger.paper import Claim
from keras_resnet.experiment.ledger.records import Record, own_settings
from keras_resnet.utils.statistics import mean_interval, welch_interval

FEWEST_SEEDS = 3
REPRODUCED, CONTRADICTED = "reproduced", "not reproduced"
UNDECIDED, TOO_FEW = "undecided", "too few seeds"

# Of each network, by seed.
Runs = Mapping[str, Mapping[int, Record]]


@dataclasses.dataclass(frozen=True)
class Summary:
    """A figure over the seeds of a network.

    Attributes:
        values: The figure by seed.
        mean: Its mean.
        deviation: Its sample standard deviation; None for a single seed.
        interval_95: Student's interval of the mean; None for a single seed.
    """

    values: Mapping[int, float]
    mean: float
    deviation: float | None
    interval_95: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Judgment:
    """A claim, and what the runs say of it.

    Attributes:
        claim: The claim.
        verdict: One of "reproduced", "not reproduced", "undecided" and "too few seeds".
        seeds: Number of seeds of the network claimed to be lower, and of the other.
        difference: Mean of the network claimed to be higher less that of the other; None where one
            has no run.
        interval_95: Welch's interval of the difference; None where one has fewer than two seeds.
        paired: Both on the same test images, of the seeds that both have; None without any, and of
            figures other than the test error.
    """

    claim: Claim
    verdict: str
    seeds: tuple[int, int]
    difference: float | None
    interval_95: tuple[float, float] | None
    paired: PairedComparison | None


def comparable(records: Sequence[Record], budget: Budget) -> tuple[Runs, list[str]]:
    """Returns the runs of a budget by network and seed, and a line for each that is left out.

    Those of other settings than the budget has now, or of other data than most, are left out. Of
    several of the same network and seed, made with different versions, the last one counts.
    """
    own = [record for record in records if record.budget == budget.name]
    digests = [record.data for record in own]
    most = max(digests, key=digests.count, default=None)
    runs: dict[str, dict[int, Record]] = {}
    left_out = []
    for record in own:
        name = f"{record.cell}, seed {record.seed} ({record.hash})"
        if record.settings != own_settings(budget.experiment(record.cell, record.seed)):
            left_out.append(f"{name} is left out: the budget has other settings now")
        elif record.data != most:
            left_out.append(f"{name} is left out: its data are others")
        else:
            runs.setdefault(record.cell, {})[record.seed] = record
    return runs, left_out


def summarize(runs: Mapping[int, Record], figure: str) -> Summary | None:
    """Returns a figure over the seeds of a network; None where no run has it."""
    found = {seed: getattr(record, figure) for seed, record in sorted(runs.items())}
    found = {seed: value for seed, value in found.items() if value is not None}
    if not found:
        return None
    values = list(found.values())
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(found, statistics.fmean(values), deviation, mean_interval(values))


def judge(claim: Claim, runs: Runs) -> Judgment:
    """Returns the verdict on a claim by the rules above."""
    pair = [runs.get(network, {}) for network in (claim.lower, claim.higher)]
    lower, higher = (summarize(one, claim.figure) for one in pair)
    seeds = (len(lower.values) if lower else 0, len(higher.values) if higher else 0)
    difference = interval = None
    if lower and higher:
        difference = higher.mean - lower.mean
        interval = welch_interval(list(higher.values.values()), list(lower.values.values()))
    if min(seeds) < FEWEST_SEEDS or interval is None:
        verdict = TOO_FEW
    elif interval[0] > 0:
        verdict = REPRODUCED
    else:
        verdict = CONTRADICTED if interval[1] < 0 else UNDECIDED
    paired = _paired(claim, *pair) if claim.figure == "test_error" else None
    return Judgment(claim, verdict, seeds, difference, interval, paired)


def _paired(
    claim: Claim, lower: Mapping[int, Record], higher: Mapping[int, Record]
) -> PairedComparison | None:
    common = sorted(lower.keys() & higher.keys())
    if not common:
        return None
    hits = [np.concatenate([runs[seed].hits() for seed in common]) for runs in (lower, higher)]
    return compare_hits((claim.lower, claim.higher), *hits)
