"""Records of own runs, a line of JSON each, that ledgers of several machines are put together of.

A run is known by the hash of its settings and of the versions it was run with, so that none is
recorded twice. Two ledgers are merged by writing one behind the other.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from keras_resnet.experiment.card import versions
from keras_resnet.experiment.settings import Experiment
from keras_resnet.utils import checks
from keras_resnet.utils.files import naming, parse_json

# Versions that a result depends on most.
_VERSIONS = ("keras_resnet", "keras", "tensorflow")
# Settings that are recorded even where they are the package's own.
_ALWAYS = ("model", "dataset", "batch_size", "epochs", "steps", "learning_rate", "drops", "seed")


@dataclasses.dataclass(frozen=True)
class Record:
    """Record of a run.

    Attributes:
        hash: Hash of settings and versions.
        cell: Name of the network.
        budget: Name of the budget.
        seed: Seed of the run.
        settings: Settings that the result depends on, those of the package's own left out.
        versions: Versions of the package, Keras and TensorFlow.
        machine: Processor and accelerators.
        data: Digest of the data.
        images: Number of test images.
        wrong: Number of those that were classified wrongly.
        train_error: Error on the training images as they were drawn in the last epoch, in [0, 1].
        seconds: Wall time of training, compilation included.
        multiply_adds: Multiply-adds of all training images, forward.
        correct: Which test images were classified correctly: bits in their order, packed into bytes
            from the highest bit, in base64.
        curve: A row for each epoch: its last step, training error, and validation error or None.
        responses: Standard deviation of the responses of every 3x3 layer, from the input.
    """

    hash: str
    cell: str
    budget: str
    seed: int
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: str
    data: str
    images: int
    wrong: int
    train_error: float
    seconds: float
    multiply_adds: int
    correct: str
    curve: Sequence[tuple[int, float, float | None]] = ()
    responses: Sequence[float] = ()

    def __post_init__(self):
        """Raises a ValueError if a value is of another kind, or counts do not belong together."""
        for name in ("hash", "cell", "budget", "machine", "data", "correct"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"`{name}` must be text. Received: {getattr(self, name)!r}")
        for name in ("seed", "images", "wrong", "multiply_adds"):
            checks.integer(name, getattr(self, name), int(name == "images"))
        checks.fraction("train_error", self.train_error, one_allowed=True)
        checks.positive("seconds", self.seconds)
        for value in self.responses:
            if value != 0:
                checks.positive("responses", value)
        for step, train, rest in self.curve:
            checks.integer("curve", step)
            for error in (train, 0.0 if rest is None else rest):
                checks.fraction("curve", error, one_allowed=True)
        if not 0 <= self.wrong <= self.images or self.images - self.wrong != self.hits().sum():
            raise ValueError(f"{self.wrong} of {self.images} images wrong, and other bits")

    @property
    def test_error(self) -> float:
        """Share of the test images that were classified wrongly."""
        return self.wrong / self.images

    @property
    def response(self) -> float | None:
        """Mean of the layers' responses."""
        return float(np.mean(self.responses)) if self.responses else None

    def hits(self) -> np.ndarray:
        """Returns whether each test image was classified correctly."""
        packed = np.frombuffer(base64.b64decode(self.correct, validate=True), np.uint8)
        if len(packed) != -(-self.images // 8):
            raise ValueError(f"{len(packed)} bytes of bits for {self.images} images")
        return np.unpackbits(packed, count=self.images).astype(bool)


def pack(hits: np.ndarray) -> str:
    """Returns `Record.correct` for whether each test image was classified correctly."""
    return base64.b64encode(np.packbits(hits).tobytes()).decode("ascii")


def identity(settings: Mapping[str, Any], used: Mapping[str, str]) -> str:
    """Returns the hash of settings of a result and of the versions it was or will be run with."""
    known = {"settings": settings, "versions": {name: used[name] for name in _VERSIONS}}
    text = json.dumps(known, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity_of(experiment: Experiment) -> str:
    """Returns the hash of a run, as it would be made with what is installed."""
    return identity(own_settings(experiment), versions())


def own_settings(experiment: Experiment) -> dict[str, Any]:
    """Returns the settings that a result depends on and that are not the package's own.

    So one that a later version adds, with a default, leaves the hashes of earlier runs.
    """
    known, files = Experiment().of_the_result(), vars(experiment.output)
    settings = {
        name: value
        for name, value in experiment.of_the_result().items()
        if name not in files and (value != known[name] or name in _ALWAYS)
    }
    return json.loads(json.dumps(settings))  # tuples become lists


def predictions_of(path: Path) -> np.ndarray:
    """Returns whether each image of a run's predictions.csv was classified correctly."""
    with open(path, newline="", encoding="utf-8") as file:
        return np.array([row["label"] == row["top1"] for row in csv.DictReader(file)])


def read_ledger(path: str | os.PathLike) -> tuple[list[Record], list[str]]:
    """Returns the records of a ledger, none twice, and a line for each that cannot be read.

    A ledger that does not exist has none. What a killed writer left of a line is no reason to lose
    the others.
    """
    path, problems = Path(path), []
    found: dict[str, Record] = {}
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _record_of(parse_json(line.decode("utf-8")))
        except (ValueError, TypeError, KeyError) as error:
            problems.append(f"{path}, line {number} is no record and is skipped ({error})")
        else:
            found.setdefault(record.hash, record)
    return list(found.values()), problems


def _record_of(value: Any) -> Record:
    record = Record(**value)
    if record.hash != identity(record.settings, record.versions):
        raise ValueError("its hash is not that of its settings and versions")
    return record


def append(path: str | os.PathLike, record: Record) -> bool:
    """Adds a record to a ledger, and returns False where it was there already.

    Several processes may do so at a time; the line is on the disk when this returns.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(record), separators=(",", ":")) + "\n"
    with filelock.FileLock(f"{path}.lock"), naming(path):
        if record.hash in {one.hash for one in read_ledger(path)[0]}:
            return False
        with open(path, "ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                # Behind what a killed writer left.
                text = text if file.read(1) == b"\n" else f"\n{text}"
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    return True
