"""A net trained, slimmed and trained on, against nets as small from scratch. TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.analysis import complexity, plots
from keras_resnet.data import ImageDataset
from keras_resnet.experiment.card import origin
from keras_resnet.experiment.factories import load_data
from keras_resnet.experiment.growth import BATCHES, MODEL, measure, quiet_retracing, train_on
from keras_resnet.experiment.page import REPORT, require_jinja, write_report
from keras_resnet.experiment.reports import counted, write_rows
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.study import StoppedRun, Study, StudyRun, attempt_study
from keras_resnet.experiment.targets import make_loss
from keras_resnet.experiment.workdir import expect_folder, in_use
from keras_resnet.network import Network
from keras_resnet.surgery import slim
from keras_resnet.training import TrainingStopped
from keras_resnet.utils import checks
from keras_resnet.utils.terminal import RESULTS
from keras_resnet.weights.saving import load_model

FULL, SLIM, SCRATCH, UNIFORM = "full", "slimmed", "as slim, from scratch", "uniform width"

Row = dict[str, Any]


def compare_slimmed(
    base: Experiment,
    shares: Sequence[float],
    seeds: Sequence[int],
    *,
    more_epochs: int = 10,
    jobs: int | None = None,
) -> list[Row]:
    """Trains a CIFAR net, slims it to shares of its multiply-adds, and trains on.

    The slimmed nets train on for `more_epochs` at the learning rate of `base`, which falls as a
    cosine. Beside each there are two nets that are trained from scratch for as long as both
    parts together: one of the same channels, and one all of whose widths are multiplied by the
    square root of the share.

    Writes to `base.workdir`: a folder per run with its metrics and `model.keras`; table.csv and
    table.json, a row per seed and net; slimming.png, .svg and .csv, error against multiply-adds;
    and report.html.

    Args:
        base: Settings of the net, one of `depth`.
        shares: Shares of its multiply-adds that are left, in (0, 1).
        seeds: Seeds of every net.
        more_epochs: Epochs after slimming.
        jobs: Runs at a time; None for one a core on the CPU.

    Returns:
        Rows as those of `deepening`, with `method`, `share`, `multiply_adds` and `parameters`, and
        for slimmed nets `accuracy_before`, that on the same images before they train on.

    Raises:
        ValueError: If a share is not in (0, 1), or the net has no `depth`.
        TrainingStopped: If runs had to stop; what is left is written.
    """
    for share in shares:
        if not checks.fraction("shares", share) > 0:
            raise ValueError(f"`shares` must be above 0. Received: shares={share}")
    checks.integer("more_epochs", more_epochs)
    if base.network.depth is None:
        raise ValueError("`depth` must be given for nets of other widths. Received: depth=None")
    plots.require_matplotlib()
    require_jinja()
    longer = base.replace(epochs=base.optimization.epochs + more_epochs)
    widening = base.network.widening or 1.0
    uniform = {f"uniform-{share:g}": share for share in shares}
    experiments = {FULL: base} | {
        label: longer.replace(widening=widening * math.sqrt(share))
        for label, share in uniform.items()
    }
    workdir = expect_folder("workdir", base.output.workdir)
    with quiet_retracing(), in_use(workdir):
        study = attempt_study(experiments, seeds, base.output.workdir, jobs=jobs)
        dataset = load_data(base.data)
        rows = []
        for run in study.finished:
            row = _row(run, load_model(run.workdir / MODEL), base, dataset)
            if run.label == FULL:
                rows.append({**row, "method": FULL, "share": 1.0})
                more, ended = _slimmed(run, base, longer, shares, more_epochs, dataset)
                rows += more
                study = Study([*study.finished, *ended.finished], [*study.stopped, *ended.stopped])
            else:
                rows.append({**row, "method": UNIFORM, "share": uniform[run.label]})
        rows.sort(key=lambda row: (row["seed"], row["method"], -row["share"]))
        return _report(study, rows, base, shares, seeds, more_epochs, dataset)


def _row(run: StudyRun, model: keras.Model, base: Experiment, dataset: ImageDataset) -> Row:
    return _costs(model) | measure(run.label, run, model, base, dataset)


def _costs(model: keras.Model) -> Row:
    cost = complexity(model)
    return {"multiply_adds": cost.multiply_adds, "parameters": cost.parameters}


def _slimmed(
    run: StudyRun,
    base: Experiment,
    longer: Experiment,
    shares: Sequence[float],
    more_epochs: int,
    dataset: ImageDataset,
) -> tuple[list[Row], Study]:
    """Slims a trained net to every share, trains on, and trains nets of that shape from scratch.

    Returns rows, and these runs.
    """
    model: Network = load_model(run.workdir / MODEL)
    total, batch_size = complexity(model).multiply_adds, base.optimization.batch_size
    batches = list(dataset.train_batches(batch_size, seed=run.seed).take(BATCHES))
    # Not a small learning rate, as for the deepened: channels that were taken out have to be made
    # up for. Chosen on the digits' validation images.
    shorter = base.replace(epochs=more_epochs, schedule="cosine")
    # What is trained from scratch has no epochs and seconds of that net.
    none = dataclasses.replace(run, metrics={**run.metrics, "epochs": 0, "train_seconds": 0.0})
    loss = make_loss(base.optimization, dataset)
    rows: list[Row] = []
    finished: list[StudyRun] = []
    stopped: list[StoppedRun] = []
    for share in shares:
        small = slim(model, max_multiply_adds=int(share * total), batches=batches, loss=loss)
        before = measure(SLIM, run, small, base, dataset)
        keras.utils.set_random_seed(run.seed)
        fresh = keras.models.clone_model(small)
        for method, net, settings, first in (
            (SLIM, small, shorter, run),
            (SCRATCH, fresh, longer, none),
        ):
            folder = Path(base.output.workdir) / f"{method.replace(', ', '-').replace(' ', '-')}"
            settings = settings.replace(workdir=f"{folder}-{share:g}-{run.seed}")
            label = f"{method} {share:g}"
            try:
                trained = train_on(net, label, first, base, settings, dataset)
            except TrainingStopped as error:
                stopped.append(StoppedRun(label, run.seed, str(error)))
                RESULTS.info(f"{label}, seed {run.seed}: {error}")
                continue
            finished.append(trained)
            row = {"method": method, "share": share, **_costs(net), **trained.metrics}
            if method == SLIM:
                split = before["split"]
                row["accuracy_before"] = before[f"{split}_accuracy"]
            rows.append(row)
    return rows, Study(finished, stopped)


def _report(
    study: Study,
    rows: list[Row],
    base: Experiment,
    shares: Sequence[float],
    seeds: Sequence[int],
    more_epochs: int,
    dataset: ImageDataset,
) -> list[Row]:
    workdir = Path(base.output.workdir)
    title = f"Slimmed to {', '.join(f'{share:g}' for share in shares)} of the multiply-adds, on "
    title += f"{dataset.name}, {counted(len(seeds), 'seed')}"
    if rows:
        plots.error_against_operations(
            rows, workdir / "slimming.png", title=title, split=dataset.splits[-1], full=FULL
        )
    stopped = [{"seed": r.seed, "network": r.label, "stopped": r.reason} for r in study.stopped]
    settings = {**base.flat(), "shares": list(shares), "more_epochs": more_epochs}
    write_rows(workdir, [*rows, *stopped], settings=settings)
    write_report(workdir, title=title, metrics=origin())
    for row in rows:
        split = row["split"]
        before = f", {100 * row['accuracy_before']:.2f} % before" if row["method"] == SLIM else ""
        RESULTS.info(
            f"seed {row['seed']}, {row['method']}, {row['multiply_adds']:,} multiply-adds: "
            f"{split} accuracy {100 * row[f'{split}_accuracy']:.2f} %{before}"
        )
    RESULTS.info(f"Everything is in {workdir}: begin with {REPORT}")
    study.expect_all_finished()
    return rows
