"""Trackers of experiments: Weights & Biases, MLflow and trackio hear what `MetricsLogger` writes.

Each is a callback of `Trainer.fit` around the library's own run. Where it lies, a server, an
account, offline or not, is for the library's own settings and environment variables to say.
"""

from __future__ import annotations

import abc
import importlib.util
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from keras_resnet.training.logs import Recorder
from keras_resnet.utils import checks
from keras_resnet.utils.files import parse_json, write_json

# Holds the id of each tracker's run, by its name.
RUNS = "trackers.json"


class Tracker(Recorder):
    """A run of a tracker: settings first, then metrics by step, and figures and files in the end.

    Values of a logging interval are named `interval/loss`, those of an epoch `epoch/loss`. The id
    of the run is kept in `trackers.json` in `directory`, so that a run that resumes continues its
    own. Where it does steps again, their values come twice. Once training has begun, what the
    library raises is a warning, the first time, and the run continues.

    Args:
        directory: Folder of the run; its last two names are the name of the tracker's.
        settings: Settings of the run, as JSON can hold them.
        project: Project, or experiment, that the run is put in.

    Raises:
        ImportError: The library is not installed.
    """

    name: ClassVar[str]

    def __init__(
        self,
        directory: str | os.PathLike,
        settings: Mapping[str, Any] | None = None,
        project: str = "keras-resnet",
    ):
        super().__init__()
        self.library = checks.import_extra(self.name, f"Runs tracked by {self.name}", self.name)
        self.directory = Path(directory)
        self.settings = json.loads(json.dumps(dict(settings or {}), default=str))
        self.project = project
        self.title = "-".join(self.directory.absolute().parts[-2:])
        self._has_warned = False

    def on_train_begin(self, logs=None) -> None:
        super().on_train_begin(logs)
        self._begin()

    def on_train_end(self, logs=None) -> None:
        self._attempt(self._end, self._step >= self.params["last_step"])

    def finish(self, figures: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        """Adds the figures of the trained model, named `final/...`, and files to the run.

        Of the figures, numbers are taken. Call it when training has ended.
        """
        numbers = {
            f"final/{name}": float(value)
            for name, value in figures.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

        def conclude() -> None:
            self._begin()
            self._conclude(numbers, [file for file in files if file.is_file()])
            self._end(True)

        self._attempt(conclude)

    def _add(self, kind: str, epoch: int, logs: Mapping[str, float]) -> None:
        values = {f"{kind}/{name}": value for name, value in logs.items()}
        self._attempt(self._send, {**values, "epoch": epoch + 1}, self._step)

    def _attempt(self, tell: Callable[..., None], *args: Any) -> None:
        """Calls what calls the library. A lost server or a full disk is no reason to end a run."""
        try:
            tell(*args)
        except Exception as error:  # Whatever the libraries raise.
            if not self._has_warned:
                warnings.warn(
                    f"{self.name} could not be told ({checks.first_line(error)}); the run "
                    f"continues, and everything lies in {self.directory}",
                    stacklevel=2,
                )
            self._has_warned = True

    def _begin(self) -> None:
        file = self.directory / RUNS
        runs = parse_json(file.read_bytes()) if file.is_file() else {}
        try:
            identity = self._open(runs.get(self.name))
        except Exception as error:  # Whatever the libraries raise without server or account.
            raise ValueError(
                f"`trackers` must be able to open a run. Received: {self.name!r}, which says: "
                f"{checks.first_line(error)}"
            ) from error
        if runs.get(self.name) != identity:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_json(file, {**runs, self.name: identity})

    @abc.abstractmethod
    def _open(self, identity: str | None) -> str:
        """Opens the run of an id, or a new one, and returns its id."""

    @abc.abstractmethod
    def _send(self, values: dict[str, float], step: int) -> None: ...

    @abc.abstractmethod
    def _conclude(self, figures: dict[str, float], files: Sequence[Path]) -> None: ...

    @abc.abstractmethod
    def _end(self, finished: bool) -> None: ...


class WandbTracker(Tracker):
    """A run of Weights & Biases; with WANDB_MODE=offline in the folder of the run."""

    name = "wandb"

    def _open(self, identity: str | None) -> str:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._run = self.library.init(
            project=self.project,
            name=self.title,
            id=identity,
            resume="allow",
            config=self.settings,
            dir=str(self.directory),
        )
        # Its own counter of steps can't go back, as a run that resumes does.
        self._run.define_metric("*", step_metric="step")
        return self._run.id

    def _send(self, values: dict[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def _conclude(self, figures: dict[str, float], files: Sequence[Path]) -> None:
        self._run.summary.update(figures)
        artifact = self.library.Artifact(f"run-{self._run.id}", type="model")
        for file in files:
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)

    def _end(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


class MLflowTracker(Tracker):
    """A run of MLflow, at MLFLOW_TRACKING_URI or where MLflow keeps runs by default."""

    name = "mlflow"

    def _open(self, identity: str | None) -> str:
        self._client = self.library.MlflowClient()
        if identity is not None:
            self._run = identity
            self._client.update_run(identity, status="RUNNING")
            return identity
        found = self._client.get_experiment_by_name(self.project)
        place = found.experiment_id if found else self._client.create_experiment(self.project)
        self._run = self._client.create_run(place, run_name=self.title).info.run_id
        for name, value in self.settings.items():
            self._client.log_param(self._run, name, value)
        return self._run

    def _send(self, values: dict[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metric = self.library.entities.Metric
        metrics = [metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def _conclude(self, figures: dict[str, float], files: Sequence[Path]) -> None:
        self._send(figures, 0)
        for file in files:
            self._client.log_artifact(self._run, str(file))

    def _end(self, finished: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


class TrackioTracker(Tracker):
    """A run of trackio, in TRACKIO_DIR or where trackio keeps runs by default."""

    name = "trackio"

    def _open(self, identity: str | None) -> str:
        self._run = self.library.init(
            project=self.project,
            name=identity or f"{self.title}-{time.time_ns():x}",
            config=self.settings,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return self._run.name

    def _send(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def _conclude(self, figures: dict[str, float], files: Sequence[Path]) -> None:
        self._run.log(figures)
        artifact = self.library.Artifact(self._run.name, type="model")
        for file in files:
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)

    def _end(self, finished: bool) -> None:
        self._run.finish()


_TRACKERS: dict[str, type[Tracker]] = {
    cls.name: cls for cls in (WandbTracker, MLflowTracker, TrackioTracker)
}


def make_trackers(
    names: Sequence[str], directory: str | os.PathLike, settings: Mapping[str, Any] | None = None
) -> list[Tracker]:
    """Returns trackers by name, but "tensorboard", which is `TensorBoardScalars`."""
    return [_TRACKERS[name](directory, settings) for name in names if name in _TRACKERS]


def expect_installed(names: Sequence[str]) -> None:
    """Raises an error of a line for each tracker whose package is missing, importing none."""
    found = checks.Problems()
    for name in names:
        if importlib.util.find_spec(name) is None:
            found.note(checks.import_extra, name, f"Runs tracked by {name}", name)
    found.expect_none()
