"""Runs campaigns within a budget, prints their table, and keeps what they found."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from keras_resnet.utils.files import write_json, write_text
from keras_resnet.utils.tables import markdown_table, text_table


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        ended: "same" as undamaged and uninterrupted, "other" value where no checksum forbids it,
            "refused" in one line, or "found".
        seconds: Time that it took.
        megabytes: Memory that it took at its peak, above that before.
        fault: What was found, in one line.
        case: What repeats a find, as JSON holds it.
    """

    ended: str
    seconds: float = 0.0
    megabytes: float = 0.0
    fault: str | None = None
    case: dict = dataclasses.field(default_factory=dict)


class Trials(Protocol):
    """What a campaign is made of."""

    def whole(self) -> list[Outcome]:
        """Tries what is not damaged, which must be accepted."""

    def trial(self, seed: int) -> Outcome:
        """Tries something that the seed alone decides."""

    def replay(self, case: dict) -> Outcome:
        """Repeats a find."""

    def close(self) -> None:
        """Ends its processes."""


@dataclasses.dataclass(frozen=True)
class Campaign:
    """A line of the table.

    Args:
        open: Returns its trials, whose files go to a folder.
        share: Its part of the minutes, relative to others.
    """

    open: Callable[[Path], Trials]
    share: float = 1.0

    def run(self, rng: random.Random, deadline: float, trials: Trials) -> Iterator[Outcome]:
        """Yields how trials end, at least one, until `time.monotonic()` passes the deadline."""
        yield from trials.whole()
        while True:
            yield trials.trial(rng.getrandbits(32))
            if time.monotonic() >= deadline:
                return


@dataclasses.dataclass
class Row:
    """Counts of one campaign; `finds` has the smallest case of each kind of fault."""

    name: str
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    megabytes: float = 0.0
    finds: dict[str, Outcome] = dataclasses.field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.ended] = self.counts.get(outcome.ended, 0) + 1
        self.seconds = max(self.seconds, outcome.seconds)
        self.megabytes = max(self.megabytes, outcome.megabytes)
        if outcome.fault is not None:
            # Without what differs from one find of a kind to the next.
            kind = re.sub(r"'[^']*'|\"[^\"]*\"|[\d.,]+|\b[0-9a-f]{8,}\b|\(.*", "", outcome.fault)
            known = self.finds.setdefault(kind, outcome)
            if len(json.dumps(outcome.case)) < len(json.dumps(known.case)):
                self.finds[kind] = outcome

    def cells(self) -> dict[str, object]:
        count = {name: self.counts.get(name, 0) for name in ("same", "other", "refused", "found")}
        return {
            "campaign": self.name,
            "tried": sum(count.values()),
            "same value": count["same"],
            "other value": count["other"],
            "refused": count["refused"],
            "FOUND": count["found"],
            "kinds": len(self.finds),
            "worst s": self.seconds,
            "worst MB": round(self.megabytes),
        }


def run(
    campaigns: dict[str, Campaign],
    folder: Path,
    *,
    minutes: float,
    seed: int,
    finds: Path | None = None,
    table: Path | None = None,
) -> list[Row]:
    """Runs campaigns one after the other, each for its share of what is left of the minutes.

    Args:
        campaigns: Campaigns by name.
        folder: An empty folder for their files.
        minutes: Time for all of them.
        seed: Seed of all that is drawn.
        finds: Folder for the cases that were found.
        table: A path whose `.csv` and `.md` are written anew after every campaign.
    """
    end = time.monotonic() + 60 * minutes
    left = sum(campaign.share for campaign in campaigns.values())
    rows: list[Row] = []
    for name, campaign in campaigns.items():
        now = time.monotonic()
        deadline = now + (end - now) * campaign.share / left
        left -= campaign.share
        row = Row(name)
        rows.append(row)
        trials = campaign.open(folder / slug(name))
        try:
            for outcome in campaign.run(random.Random(f"{seed} {name}"), deadline, trials):
                row.add(outcome)
        finally:
            trials.close()
            for kind, outcome in row.finds.items():
                print(f"FOUND  {name}: {outcome.fault}", flush=True)
                if finds is not None:
                    store(finds, name, kind, outcome)
            if table is not None:
                write_text(table.with_suffix(".csv"), _csv(rows))
                write_text(
                    table.with_suffix(".md"), markdown_table([row.cells() for row in rows]) + "\n"
                )
    print(text_table([row.cells() for row in rows]))
    return rows


def store(folder: Path, name: str, kind: str, outcome: Outcome) -> Path:
    """Writes a case that `--replay` repeats."""
    path = folder / f"{slug(name)}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}.json"
    write_json(path, {"campaign": name, "fault": outcome.fault, **outcome.case})
    return path


def replay(campaigns: dict[str, Campaign], path: Path, folder: Path) -> Outcome:
    """Repeats a stored case."""
    case = json.loads(path.read_text())
    trials = campaigns[case["campaign"]].open(folder)
    try:
        return trials.replay(case)
    finally:
        trials.close()


def slug(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-").lower()


def _csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].cells(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.cells() for row in rows)
    return text.getvalue()


def show(outcome: Outcome) -> int:
    """Prints how a repeated case ended, and returns the exit code."""
    print(f"FOUND  {outcome.fault}" if outcome.fault else f"ended: {outcome.ended}")
    return int(outcome.fault is not None)
