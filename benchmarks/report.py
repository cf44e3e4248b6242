"""Figures of measured rows: medians, ratios and goals, as tables and as a plot."""

from __future__ import annotations

import random
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.driver import Samples
from benchmarks.rows import BEST, BUILD_AND_FIRST, LOAD_AND_FIRST, MEMORY, Goal, Row
from keras_resnet.analysis.plots import drawing
from keras_resnet.utils.documents import around
from keras_resnet.utils.tables import markdown_table

START, END = "<!-- benchmarks -->", "<!-- end of benchmarks -->"
# Figure of `Samples` by measure; others are sums of the first two.
_FIGURES = {"build": "build", "first step": "first", "step": "step", MEMORY: "memory"}
_RESAMPLES = 2000

Figure = dict[str, Any]
Result = dict[str, Any]


def values(samples: Samples, measure: str) -> list[float]:
    """Returns what was measured, in the order of rounds and turns."""
    if measure in (BUILD_AND_FIRST, LOAD_AND_FIRST):
        return [b + f for b, f in zip(samples.build, samples.first, strict=False)]
    return getattr(samples, _FIGURES[measure])


def ratio(own: Sequence[float], other: Sequence[float]) -> list[float] | None:
    """Returns the median ratio in the same turn, and its 95 % interval by bootstrap."""
    ratios = [a / b for a, b in zip(own, other, strict=False)]
    if not ratios:
        return None
    rng = random.Random(0)
    medians = sorted(
        statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES)
    )
    cut = round(0.025 * _RESAMPLES)
    return [statistics.median(ratios), medians[cut], medians[-1 - cut]]


def summarize(
    row: Row, samples: Mapping[str, Samples], features: Collection[str] = (), suffix: str = ""
) -> Result:
    """Returns the figures of a row, as JSON can hold them.

    A figure's `ratio` is that to the anchor, and `change` that to the same contender with `suffix`
    behind its name, the one of another commit: median, and both ends of the interval.

    Args:
        row: The row.
        samples: What was measured, by contender.
        features: What the processor has, as goals ask for it.
        suffix: What the names of contenders of another commit end in; "" without any.
    """
    figures = []
    for measure in row.measures:
        of_measure = {
            name: values(own, measure) for name, own in samples.items() if not own.failed()
        }
        for name, own in of_measure.items():
            if not own:
                continue
            quartiles = statistics.quantiles(own, method="inclusive") if own[1:] else 3 * own
            earlier = of_measure.get(name + suffix) if suffix else None
            figures.append(
                {
                    "measure": measure,
                    "contender": name,
                    "ours": name in row.contenders and row.contenders[name].ours,
                    "quartiles": quartiles,
                    "count": len(own),
                    "ratio": ratio(own, of_measure.get(row.anchor, [])),
                    "change": ratio(own, earlier) if earlier else None,
                    "goals": [],
                    "values": own,
                }
            )
    for goal in row.goals:
        _judge(goal, figures, features)
    failures = {name: own for name, own in samples.items() if own.failed()}
    return {
        "row": row.name,
        "about": row.about,
        "anchor": row.anchor,
        "figures": figures,
        "missing": {name: own.missing for name, own in failures.items() if own.missing},
        "errors": {name: own.error for name, own in failures.items() if own.error},
    }


def _judge(goal: Goal, figures: list[Figure], features: Collection[str]) -> None:
    """Adds a goal to the figure that it is for."""
    if goal.features and not set(goal.features) & set(features):
        return
    own = [figure for figure in figures if figure["ours"] and figure["measure"] == goal.measure]
    if goal.contender != BEST:
        own = [figure for figure in own if figure["contender"] == goal.contender]
    key = "quartiles" if goal.seconds else "ratio"
    own = [figure for figure in own if figure[key]]
    if not own:
        return
    place = 1 if goal.seconds else 0
    figure = min(own, key=lambda figure: figure[key][place])
    low, high = min(figure[key]), max(figure[key])
    met = "met" if high <= goal.most else "missed" if low > goal.most else "unclear"
    what = {"most": goal.most, "seconds": goal.seconds, "best": goal.contender == BEST, "met": met}
    figure["goals"].append(what)


def table(result: Result) -> str:
    """Returns the figures of a row as a table in Markdown."""
    lines = []
    changes = any(figure["change"] for figure in result["figures"])
    for figure in result["figures"]:
        low, median, high = figure["quartiles"]
        line = {
            "measure": figure["measure"],
            "of": figure["contender"],
            "median": _amount(median, figure),
            "quartiles": f"{_amount(low, figure)} to {_amount(high, figure)}",
            f"ratio to {result['anchor']}": _interval(figure["ratio"]),
            "goal": ", ".join(map(_goal, figure["goals"])),
        }
        if changes:
            lost = figure["change"] and figure["change"][1] > 1
            line["ratio to the other commit"] = _interval(figure["change"]) + (
                ", a loss" if lost else ""
            )
        lines.append(line)
    blank = dict.fromkeys(lines[0] if lines else ("measure", "of", "median"), "")
    for kind, told in (("missing", "peer missing"), ("errors", "failed")):
        for name, reason in result[kind].items():
            lines.append(blank | {"of": name, "median": f"{told}: {reason}"})
    return markdown_table(lines)


def _amount(value: float, figure: Figure) -> str:
    return f"{value / 2**30:.3g} GiB" if figure["measure"] == MEMORY else f"{value:.3g} s"


def _interval(found: Sequence[float] | None) -> str:
    return "" if found is None else f"{found[0]:.2f} ({found[1]:.2f} to {found[2]:.2f})"


def _goal(goal: Mapping[str, Any]) -> str:
    unit, who = " s" if goal["seconds"] else "", "best " if goal["best"] else ""
    return f"{who}at most {goal['most']:g}{unit}: {goal['met']}"


def conditions_text(conditions: Mapping[str, Any]) -> str:
    """Returns where, when and how a row was measured, as text."""
    told = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    features = " ".join(conditions["features"]) or "features unknown"
    return (
        f"Measured on {conditions['date']} at commit {conditions['commit']} by "
        f"`{conditions['command']}` on {conditions['processor']}, {conditions['cores']} cores "
        f"({features}), load {conditions['load']:.2f} at the start; {told}."
    )


def document(page: str, results: Iterable[Result]) -> str:
    """Returns a page in Markdown with all results between `START` and `END`.

    Raises:
        ValueError: If it does not have these two comments.
    """
    before, after = around(page, START, END, argument="update")
    parts = []
    for result in results:
        title = f"### {result['row']}\n\n{result['about'][:1].upper()}{result['about'][1:]}."
        parts += [title, table(result), conditions_text(result["conditions"])]
    return "\n\n".join([before, *parts, after])


def plot(results: Iterable[Result], path: str | Path) -> None:
    """Draws the ratios that have a goal: the median, its interval, and the goal."""
    found = [
        (f"{result['row']}: {figure['measure']}, {figure['contender']}", figure["ratio"], goal)
        for result in results
        for figure in result["figures"]
        for goal in figure["goals"]
        if not goal["seconds"] and not goal["best"]
    ]
    colors = {"met": drawing.GREEN, "missed": drawing.VERMILION, "unclear": drawing.ORANGE}
    with drawing.figure(path, (9.0, 1.2 + 0.28 * len(found))) as fig:
        axes = fig.subplots()
        for place, (_, (median, low, high), goal) in enumerate(found):
            bars = [[median - low], [high - median]]
            color = colors[goal["met"]]
            axes.errorbar(median, place, xerr=bars, fmt="o", color=color, capsize=3)
            axes.plot(goal["most"], place, "|", color="black", markersize=12)
        axes.axvline(1, color="gray", linewidth=0.8)
        axes.set_yticks(range(len(found)), [label for label, *_ in found])
        axes.invert_yaxis()
        axes.set_xlabel("ratio of our time or memory to theirs; the stroke is the goal")
        axes.grid(axis="x", alpha=0.3)
