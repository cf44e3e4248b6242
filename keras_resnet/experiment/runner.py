"""One experiment from settings to trained model: train, evaluate, save, read back, compare.

Needs TensorFlow. The recipes are settings of `Experiment` and a call of `run`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import training
from keras_resnet.analysis.counting import complexity
from keras_resnet.analysis.plots import learning_curve, require_matplotlib
from keras_resnet.data import ImageDataset
from keras_resnet.experiment import finish, page, smoke
from keras_resnet.experiment.card import model_card, network_text, origin
from keras_resnet.experiment.effort import CountEnergy, effort_figures, meters_of
from keras_resnet.experiment.factories import (
    architecture_of,
    best_keeper,
    build_model,
    fit_options,
    load_data,
    make_trainer,
    total_steps,
)
from keras_resnet.experiment.mirror import Mirror, mirrored
from keras_resnet.experiment.preflight import expect_statistics_of, prepare
from keras_resnet.experiment.settings import Data, Experiment
from keras_resnet.experiment.workdir import (
    CONFIG,
    DATA,
    expect_data,
    expect_settings,
    in_use,
    read_object,
)
from keras_resnet.export import HubLayer
from keras_resnet.network import preprocessing_of
from keras_resnet.surgery import freeze
from keras_resnet.surgery.rebuilding import dtype_policy
from keras_resnet.training.strategy import (
    any_worker,
    make_deterministic,
    operation_threads,
    others_reachable,
)
from keras_resnet.training.trackers import Tracker
from keras_resnet.utils import checks
from keras_resnet.utils.escapes import markdown
from keras_resnet.utils.files import clear_leftovers, write_json
from keras_resnet.utils.remote import is_remote
from keras_resnet.weights import copy_weights

logger = logging.getLogger(__name__)

# Folder of a run that holds what came before the rest of the network was trained.
HEAD = "head"


def run(experiment: Experiment) -> dict[str, Any]:
    """Trains, evaluates, saves, reads back and compares; resumes where it was interrupted.

    Writes to the experiment's `workdir`: config.json; data.json, what tells its data from others;
    .lock, held while it runs; metrics.csv and metrics.jsonl, a row per
    logging interval and epoch, and the same in tensorboard/ where it is installed; checkpoints;
    learning_curve.png, .svg and .csv; model.keras, which takes images in [0, 255] and gives
    probabilities, and beside it best.keras with the weights of the best epoch (or last.keras, where
    `final_weights` takes the best ones for model.keras), best-2.keras and so on; saved_model and
    feature_vector, Hub modules that take images in [0, 1] and give logits and features;
    model_card.md; confusion and per_class (.png, .svg, .csv), predictions.csv and report.html, the
    page to begin with; and last metrics.json, whose presence says that the run is finished. Of
    several machines, the first one writes. Where a new classifier was trained alone first
    (`head_epochs`), head/ has its metrics and checkpoints. With `smoke`, all of it is in smoke/,
    written anew each time. A `workdir` at an address such as gs://bucket/run has a local folder
    that all of it is written to; see `experiment.mirror`.

    Returns:
        The content of metrics.json: `test_accuracy` (of a data set without test images,
        `validation_accuracy`; without both, `train_accuracy`) and the rest.

    Raises:
        ValueError: If settings or data are wrong, a line for each problem, or `workdir` holds a run
            of other settings or data, or is in use by another process.
        TrainingStopped: If training cannot be finished; the message says why.
    """
    address = experiment.output.workdir
    with contextlib.ExitStack() as stack:
        mirror: Mirror | None = None
        if is_remote(address):
            smoke.expect_one_machine(
                experiment,
                "`workdir` must be a folder that all share, with several machines. "
                f"Received: workdir={address!r}",
            )
            mirror = stack.enter_context(mirrored(address))
            experiment = experiment.replace(workdir=str(mirror.folder))
        if experiment.output.smoke:
            experiment = smoke.shortened(experiment)
            smoke.clear(Path(experiment.output.workdir))
        workdir, optimization = Path(experiment.output.workdir), experiment.optimization
        expect_own = functools.partial(_is_finished, experiment)
        # What is wrong there is for `opened` to say, with all else.
        if checks.Problems().note(expect_own):
            return _figures(experiment, data_identity)
        with opened(experiment, expect_own) as (strategy, dataset):
            chief = training.is_chief(strategy)
            keras.utils.set_random_seed(optimization.seed)
            with strategy.scope():
                model = build_model(experiment, dataset)
            subject = _subject(experiment, model)
            if experiment.network.init_is_model and not experiment.network.freeze_bn:
                micro_batches = experiment.devices.micro_batches
                layout = training.layout(strategy, optimization.batch_size, micro_batches)
                expect_statistics_of(model, experiment, layout, dataset)

            # The new classifier alone first, where that is asked for, then all of the network.
            steps = total_steps(optimization, dataset)
            per_epoch = dataset.steps_per_epoch(optimization.batch_size)
            phases = [(workdir, steps)]
            if optimization.head_epochs:
                phases.insert(0, (workdir / HEAD, optimization.head_epochs * per_epoch))
            seconds, done, counted = 0.0, [], []
            best = best_keeper(experiment, dataset)
            for phase, (folder, last_step) in enumerate(phases):
                own, keeper = experiment, best
                if folder != workdir:
                    # How long it takes is said, and none of its epochs is one of the whole network.
                    own, keeper = experiment.replace(patience=None), None
                    freeze(model)
                elif experiment.network.init is not None:
                    freeze(model, 0, bn=experiment.network.freeze_bn)
                trainer = make_trainer(experiment, strategy, model, dataset, last_step)
                if chief and phase == 0:
                    own_address = None if mirror is None else mirror.address_of(workdir)
                    _begin(experiment, subject, strategy, dataset, steps, own_address)
                options = fit_options(own, dataset, folder, chief=chief, best=keeper)
                if mirror is not None:
                    options["checkpoints"].on_save = mirror.push
                    options["callbacks"].append(_pushing(mirror))
                if chief:
                    counted.append(CountEnergy(meters_of(strategy)))
                    options["callbacks"].append(counted[-1])
                trainer.fit(steps=last_step, **options)
                seconds += trainer.seconds
                done.append(trainer.step)

            settle_statistics(experiment, trainer, dataset)
            split = dataset.splits[-1]
            weights = {"last": model.get_weights()}
            if best is not None:
                for place in range(len(best.epochs)):
                    weights["best" if place == 0 else f"best-{place + 1}"] = best.weights(place)
            measured: dict[str, dict[str, float]] = {}
            for which in [name for name in ("last", "best") if name in weights]:
                with strategy.scope():
                    model.set_weights(weights[which])
                measured[which] = trainer.evaluate(dataset, split, optimization.batch_size)
            chosen = optimization.final_weights
            if chosen not in weights:
                chosen = "last"
                warnings.warn("No epoch is best: none has the monitored figure", stacklevel=2)
            with strategy.scope():
                model.set_weights(weights.pop(chosen))
            if strategy.num_replicas_in_sync > 1:
                # What follows is one process's work; a distributed model would wait for the others.
                single = build_model(experiment, dataset)
                copy_weights(model, single)
                if experiment.network.init is not None:
                    freeze(single, 0, bn=experiment.network.freeze_bn)
                model = single
            figures = {
                "split": split,
                **{f"{split}_{name}": value for name, value in measured.pop(chosen).items()},
                **{
                    f"{which}_{split}_{name}": value
                    for which, values in measured.items()
                    for name, value in values.items()
                },
                f"{split}_images": trainer.evaluated_images,
                "final_weights": chosen,
                **_best_epoch(best),
                "steps": sum(done),
                "epochs": sum(-(-step // per_epoch) for step in done),
                "stopped_early": done[-1] < steps,
                "micro_batches": trainer.micro_batches,
                "train_seconds": round(seconds, 1),
                "parameters": subject.parameters,
                "multiply_adds": subject.multiply_adds,
                **effort_figures(
                    sum(done), optimization.batch_size, subject.multiply_adds, counted
                ),
                "jit_compile": trainer.jit_compile,
                "threads": operation_threads(),
                "seed": optimization.seed,
            }
            if chief:
                # Those of the last phase, which has the run's own folder.
                trackers = [one for one in options["callbacks"] if isinstance(one, Tracker)]
                figures = _finish(experiment, subject, model, dataset, figures, weights, trackers)
            any_worker(strategy, False)  # The others wait until the first worker is done.
            return figures


def _pushing(mirror: Mirror) -> keras.callbacks.Callback:
    """Returns a callback that uploads the figures of every epoch, where no checkpoint does."""
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: mirror.push())


def _best_epoch(best: training.KeepBest | None) -> dict[str, Any]:
    """Returns the best epoch and its figure, where there is one."""
    if best is None or not best.epochs:
        return {}
    return {"monitor": best.monitor, "best_epoch": best.epochs[0], "best_value": best.values[0]}


def _is_finished(experiment: Experiment) -> bool:
    """Returns whether `workdir` holds this run, finished; a ValueError says what else it holds."""
    output, workdir = experiment.output, Path(experiment.output.workdir)
    begun = expect_settings(workdir / CONFIG, experiment.of_the_result(), of="run")
    ended = begun and (workdir / "metrics.json").exists()
    if begun and not ended and not output.resume:
        raise ValueError(
            "`workdir` holds this run, unfinished; leave out --no-resume to resume it, or "
            f"choose a new folder. Received: workdir={str(workdir)!r}"
        )
    return ended


def finished(experiment: Experiment, identify: Callable[[Data], dict[str, Any]]) -> dict[str, Any]:
    """Returns the figures of a finished run, if it was one of the data that `identify` tells."""
    config = Path(experiment.output.workdir) / CONFIG
    expect_settings(config, experiment.of_the_result(), of="run")
    return _figures(experiment, identify)


def _figures(experiment: Experiment, identify: Callable[[Data], dict[str, Any]]) -> dict[str, Any]:
    """Returns those of a finished run of the same settings."""
    workdir = Path(experiment.output.workdir)
    figures = read_object(workdir / "metrics.json")
    expect_data(workdir, functools.partial(identify, experiment.data))
    logger.info(f"{workdir} holds this run, finished: nothing to do.")
    return figures


def data_identity(data: Data) -> dict[str, Any]:
    """Returns what tells the data from others, as `ImageDataset.identity` does."""
    return load_data(data).identity()


@contextlib.contextmanager
def opened(
    experiment: Experiment, expect_own: Callable[[], object]
) -> Iterator[tuple[tf.distribute.Strategy, ImageDataset]]:
    """Checks an experiment, and takes its folder; yields strategy and open data.

    The precision is that of the experiment until the end, and then what it was. Determinism stays
    on in the process, and the devices stay as they were prepared.

    Args:
        experiment: The settings.
        expect_own: Raises a ValueError if the folder holds what is not the experiment's; called
            again once the folder is taken, which another process may have used until then.
    """
    if experiment.devices.deterministic:
        make_deterministic()  # before a strategy, which starts TensorFlow
    workdir = Path(experiment.output.workdir)
    found = checks.Problems()
    found.note(expect_own)
    found.note(require_matplotlib)
    if experiment.output.report:
        found.note(page.require_jinja)
    strategy, dataset = prepare(experiment, found)
    # Of several workers, the first one writes.
    chief = training.is_chief(strategy)
    folder = in_use(workdir) if chief else contextlib.nullcontext()
    with folder, dtype_policy(keras.config.dtype_policy().name):
        if chief:
            expect_own()
            expect_data(workdir, dataset.identity)
        if experiment.output.smoke:
            dataset = smoke.few_batches(dataset)
        training.set_precision(experiment.devices.precision)
        with dataset.reading(), others_reachable(strategy):
            yield strategy, dataset


def settle_statistics(
    experiment: Experiment, trainer: training.Trainer, dataset: ImageDataset
) -> None:
    """Recomputes the statistics of batch normalization after training, where they need it."""
    optimization = experiment.optimization
    # Averaged weights have no statistics of their own.
    averaged = optimization.ema is not None and not experiment.network.freeze_bn
    if optimization.recompute_bn or (averaged and not _holds_a_module(trainer.model)):
        trainer.recompute_bn_statistics(dataset, optimization.batch_size, seed=optimization.seed)


def epochs_of(experiment: Experiment) -> list[dict[str, Any]]:
    """Returns the figures of every epoch; those of the head come first and are counted too."""
    workdir = Path(experiment.output.workdir)
    has_head = experiment.optimization.head_epochs
    head = training.read_epochs(workdir / HEAD / "metrics.jsonl") if has_head else []
    rest = training.read_epochs(workdir / "metrics.jsonl")
    return [*head, *({**row, "epoch": len(head) + row["epoch"]} for row in rest)]


class _Subject(NamedTuple):
    """Name, kind in a few words, and size of a model; multiply-adds where they are known."""

    name: str
    kind: str
    parameters: int
    multiply_adds: int | None


def _subject(experiment: Experiment, model: keras.Model) -> _Subject:
    """Describes a model; a ValueError names settings that make no sense with a Hub module in it."""
    network, init = experiment.network, f"<code>{markdown(experiment.network.init)}</code>"
    if network.init_is_model:
        name, kind = model.name, f"The network of {init} with a classifier of its own"
    else:
        architecture = architecture_of(network)
        begun = "" if network.init is None else f", begun from the weights {init}"
        name, kind = architecture.name, network_text(architecture) + begun
    if not _holds_a_module(model):
        cost = complexity(model)
        return _Subject(name, kind, cost.parameters, cost.multiply_adds)
    for setting, why in (
        ("jit_compile", "which XLA would compile at every step"),
        ("recompute_bn", "whose normalizations are its own"),
    ):
        if experiment.flat()[setting]:
            raise ValueError(
                f"`{setting}` must be left out where training begins from a Hub module, {why}. "
                f"Received: {setting}=True with init={network.init!r}"
            )
    # Its operations cannot be counted.
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return _Subject(name, kind, parameters, None)


def _holds_a_module(model: keras.Model) -> bool:
    return any(isinstance(layer, HubLayer) for layer in model.layers)


def _begin(
    experiment: Experiment,
    subject: _Subject,
    strategy: tf.distribute.Strategy,
    dataset: ImageDataset,
    steps: int,
    address: str | None,
) -> None:
    """Logs network, data set and devices, and writes config.json, with the `address` of a run."""
    optimization, devices = experiment.optimization, experiment.devices
    workdir = Path(experiment.output.workdir)
    operations = "multiply-adds not known"
    if subject.multiply_adds is not None:
        operations = f"{subject.multiply_adds / 1e6:.3g} million multiply-adds per image"
    rate = f"{optimization.peak_rate:g}"
    if optimization.base_batch not in (None, optimization.batch_size):
        factor = f"{optimization.batch_size}/{optimization.base_batch}"
        rate = f"{optimization.learning_rate:g} x {factor} = {rate}"
    layout = training.layout(strategy, optimization.batch_size)
    others = "" if len(dataset.splits) > 1 else " There are no other images to measure it on."
    logger.info(
        f"{subject.name}: {subject.parameters:,} parameters, {operations}. {dataset.name}: "
        f"{dataset.num_examples('train'):,} training images, {steps:,} steps.{others}\n"
        f"{layout}; learning rate {rate}; {devices.precision}; writing to {workdir}"
    )
    clear_leftovers(workdir)
    place = {} if address is None else {"workdir": address}
    write_json(workdir / CONFIG, {**experiment.recorded(), **place})
    write_json(workdir / DATA, dataset.identity())


def _finish(
    experiment: Experiment,
    subject: _Subject,
    model: keras.Model,
    dataset: ImageDataset,
    figures: dict[str, Any],
    others: Mapping[str, list[np.ndarray]],
    trackers: Sequence[Tracker],
) -> dict[str, Any]:
    """Draws the curve, writes card and models, and last metrics.json, whose content it returns."""
    optimization, output = experiment.optimization, experiment.output
    workdir, split = Path(output.workdir), figures["split"]
    # Rows may have been lost, which is no reason to lose the run.
    needed = {"accuracy", "loss", "learning_rate"}
    epochs = [row for row in epochs_of(experiment) if needed <= row.keys()]
    last, accuracy = epochs[-1] if epochs else {}, figures[f"{split}_accuracy"]
    figures = {
        **{
            f"{which}_{name}": last[key]
            for name in ("accuracy", "loss", "top5_accuracy")
            for which, key in (("train", name), ("val", f"val_{name}"))
            if key in last
        },
        # Where there are only training images, those of the trained model replace the last epoch's.
        **figures,
        **origin(),
    }
    seconds = figures["train_seconds"]
    logger.info(f"{split} accuracy {100 * accuracy:.2f} %, {seconds:.0f} s of training")
    if epochs:
        learning_curve(
            epochs,
            workdir / "learning_curve.png",
            title=f"{subject.name} on {dataset.name}, seed {optimization.seed}",
            watched=experiment.data.validation_split,
            final=(split, 1 - accuracy),
        )
    else:
        warnings.warn(f"No curve is drawn: {workdir} has no metrics of an epoch", stacklevel=2)
    prepared = preprocessing_of(model)

    def card_of(part: keras.Model) -> str:
        own = dict(figures)
        if part is not model and not _holds_a_module(model):
            cost = complexity(part)
            own |= {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
        return model_card(subject.name, subject.kind, dataset, experiment.recorded(), own, prepared)

    figures["reload_difference"] = finish.save(model, dataset, card_of, experiment, others)
    if output.fine_tune_epochs:
        figures |= finish.fine_tune(
            workdir / "feature_vector",
            dataset,
            split,
            epochs=output.fine_tune_epochs,
            batch_size=optimization.batch_size,
            seed=optimization.seed,
        )
    if output.report:
        page.report_run(experiment, model, dataset, figures, f"{subject.name} on {dataset.name}")
    write_json(workdir / "metrics.json", figures)
    files = ("metrics.json", "model_card.md", "learning_curve.png", "model.keras")
    for tracker in trackers:
        tracker.finish(figures, [workdir / name for name in files])
    begin = page.REPORT if output.report else "learning_curve.png"
    logger.info(f"Everything is in {workdir}: begin with model_card.md and {begin}")
    return figures
