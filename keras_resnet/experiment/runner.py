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
from keras_resnet.experiment.headline import accuracy_key
from keras_resnet.experiment.measuring import Outcome, last_validation, measure
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

logger = logging.getLogger(__name__)

# Folder of a run that holds what came before the rest of the network was trained.
HEAD = "head"
# Files of a run that its trackers get, where there are such.
_TRACKED = (
    *("metrics.json", "model_card.md", "learning_curve.png", "model.keras"),
    *("model.tflite", "model.onnx"),
)


def run(experiment: Experiment) -> dict[str, Any]:
    """Trains, evaluates, saves, reads back and compares; resumes where it was interrupted.

    Writes to the experiment's `workdir`:

    - report.html: the page to begin with; model_card.md.
    - metrics.csv, metrics.jsonl: a row per logging interval and epoch, also in tensorboard/ where
      that is installed; learning_curve.png, .svg and .csv.
    - model.keras: takes images in [0, 255] and gives probabilities; labels.txt and
      preprocessing.json. best.keras has the weights of the best epoch (last.keras the last ones,
      where `final_weights` takes the best for model.keras), best-2.keras and so on.
    - saved_model, feature_vector: Hub modules that take images in [0, 1] and give logits and
      features.
    - confusion and per_class (.png, .svg, .csv), predictions.csv.
    - config.json, data.json (which tells its data from others), checkpoints: what it resumes from;
      .lock, held while it runs; head/, metrics and checkpoints of a classifier that was trained
      alone first (`head_epochs`).
    - metrics.json: written last; where it is, the run is finished.

    Of several machines, the first one writes. With `smoke`, all of it is in smoke/, written anew
    each time. A `workdir` at an address such as gs://bucket/run has a local folder that all of it
    is written to; see `experiment.mirror`.

    Returns:
        The content of metrics.json: `test_accuracy` (of a data set without test images,
        `validation_accuracy`; without both, `train_accuracy`) and the rest.

    Raises:
        ValueError: If settings or data are wrong, a line for each problem, or `workdir` holds a run
            of other settings or data, or is in use by another process.
        TrainingStopped: If training cannot be finished; the message says why.
    """
    with _prepared(experiment) as (experiment, mirror):
        expect_own = functools.partial(_is_finished, experiment)
        # What is wrong there is for `opened` to say, with all else.
        if checks.Problems().note(expect_own):
            return _figures(experiment, data_identity)
        workdir = Path(experiment.output.workdir)
        with working(experiment, expect_own) as (strategy, dataset):
            chief = training.is_chief(strategy)
            with strategy.scope():
                model = build_model(experiment, dataset)
            subject = _subject(experiment, model)
            expect_statistics_of(model, experiment, strategy, dataset)
            steps, best = total_steps(experiment.optimization, dataset), None
            counted: list[CountEnergy] = []
            trained: list[training.Trainer] = []
            for folder, last_step in _phases(experiment, dataset, steps):
                own = _unfrozen(experiment, model, folder)
                best = best_keeper(own, dataset) if folder == workdir else None
                trainer = make_trainer(experiment, strategy, model, dataset, last_step)
                if chief and not trained:
                    _tell(experiment, subject, strategy, dataset, steps)
                    place = {} if mirror is None else {"workdir": mirror.address_of(workdir)}
                    begin(experiment, dataset, place)
                options = fit_options(own, dataset, folder, chief=chief, best=best)
                if mirror is not None:
                    options["checkpoints"].on_save = mirror.push
                    options["callbacks"].append(_pushing(mirror))
                if chief:
                    counted.append(CountEnergy(meters_of(strategy)))
                    options["callbacks"].append(counted[-1])
                history = trainer.fit(steps=last_step, **options)
                trained.append(trainer)
            settled = settle_statistics(experiment, trainer, dataset)
            known = None if settled else last_validation(experiment, trainer, dataset, history)
            outcome = measure(experiment, trainer, dataset, best, known)
            model = of_one_process(strategy, model, lambda: _rebuilt(experiment, dataset))
            figures = {
                **outcome.figures,
                **_best_epoch(best),
                **_of_training(experiment, dataset, trained, stopped=trainer.step < steps),
                "parameters": subject.parameters,
                "multiply_adds": subject.multiply_adds,
                **effort_figures(
                    sum(one.step for one in trained),
                    experiment.optimization.batch_size,
                    subject.multiply_adds,
                    counted,
                ),
            }
            if chief:
                figures = _finish(experiment, subject, model, dataset, figures, outcome)
                # Those of the last phase, which has the run's own folder.
                conclude(workdir, figures, options["callbacks"])
                begin_with = page.REPORT if experiment.output.report else "learning_curve.png"
                logger.info(
                    f"Everything is in {workdir}: begin with model_card.md and {begin_with}"
                )
            return figures


@contextlib.contextmanager
def _prepared(experiment: Experiment) -> Iterator[tuple[Experiment, Mirror | None]]:
    """Yields the experiment in a local folder, shortened for `smoke`, and what mirrors the folder.

    There is a mirror where the experiment's own folder is at an address.
    """
    address, mirror = experiment.output.workdir, None
    with contextlib.ExitStack() as stack:
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
        yield experiment, mirror


def _phases(experiment: Experiment, dataset: ImageDataset, steps: int) -> list[tuple[Path, int]]:
    """Returns folder and last step of each phase: the new classifier alone, then all."""
    workdir, optimization = Path(experiment.output.workdir), experiment.optimization
    phases = [(workdir, steps)]
    if optimization.head_epochs:
        per_epoch = dataset.steps_per_epoch(optimization.batch_size)
        phases.insert(0, (workdir / HEAD, optimization.head_epochs * per_epoch))
    return phases


def _unfrozen(experiment: Experiment, model: keras.Model, folder: Path) -> Experiment:
    """Lets what learns in a phase learn, by the phase's folder; returns the phase's settings."""
    if folder != Path(experiment.output.workdir):
        freeze(model)
        # How long it takes is said, and none of its epochs is one of the whole network.
        return experiment.replace(patience=None)
    if experiment.network.init is not None:
        freeze(model, 0, bn=experiment.network.freeze_bn)
    return experiment


def _rebuilt(experiment: Experiment, dataset: ImageDataset) -> keras.Model:
    model = build_model(experiment, dataset)
    _unfrozen(experiment, model, Path(experiment.output.workdir))
    return model


def _of_training(
    experiment: Experiment,
    dataset: ImageDataset,
    trained: Sequence[training.Trainer],
    *,
    stopped: bool,
) -> dict[str, Any]:
    """Returns the figures of the trainers of all phases."""
    optimization, done = experiment.optimization, [trainer.step for trainer in trained]
    per_epoch = dataset.steps_per_epoch(optimization.batch_size)
    return {
        "steps": sum(done),
        "epochs": sum(-(-step // per_epoch) for step in done),
        "stopped_early": stopped,
        "micro_batches": trained[-1].micro_batches,
        "train_seconds": round(sum(trainer.seconds for trainer in trained), 1),
        "jit_compile": trained[-1].jit_compile,
        "threads": operation_threads(),
        "seed": optimization.seed,
    }


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
) -> bool:
    """Recomputes the statistics of batch normalization after training, where they need it.

    Returns whether they did.
    """
    optimization = experiment.optimization
    # Averaged weights have no statistics of their own.
    averaged = optimization.ema is not None and not experiment.network.freeze_bn
    due = optimization.recompute_bn or (averaged and not _holds_a_module(trainer.model))
    if due:
        trainer.recompute_bn_statistics(dataset, optimization.batch_size, seed=optimization.seed)
    return due


@contextlib.contextmanager
def working(
    experiment: Experiment, expect_own: Callable[[], object]
) -> Iterator[tuple[tf.distribute.Strategy, ImageDataset]]:
    """Does what `opened` does, from the seed on; of several workers, all wait for the first one."""
    with opened(experiment, expect_own) as (strategy, dataset):
        keras.utils.set_random_seed(experiment.optimization.seed)
        yield strategy, dataset
        any_worker(strategy, False)


def begin(experiment: Experiment, dataset: ImageDataset, more: Mapping[str, Any]) -> None:
    """Writes config.json, with `more` than the settings, and data.json, to a run's folder."""
    workdir = Path(experiment.output.workdir)
    clear_leftovers(workdir)
    write_json(workdir / CONFIG, {**experiment.recorded(), **more})
    write_json(workdir / DATA, dataset.identity())


def conclude(
    workdir: Path, figures: Mapping[str, Any], callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Writes metrics.json, the last file of a run, and tells the trackers among its callbacks."""
    write_json(workdir / "metrics.json", figures)
    for tracker in callbacks:
        if isinstance(tracker, Tracker):
            tracker.finish(figures, [workdir / name for name in _TRACKED])


def of_one_process(
    strategy: tf.distribute.Strategy, model: keras.Model, build: Callable[[], keras.Model]
) -> keras.Model:
    """Returns a model for one process's work, which `build` makes where there are replicas.

    A distributed model would wait for the other processes.
    """
    if strategy.num_replicas_in_sync == 1:
        return model
    single = build()
    single.set_weights(model.get_weights())
    return single


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


def _tell(
    experiment: Experiment,
    subject: _Subject,
    strategy: tf.distribute.Strategy,
    dataset: ImageDataset,
    steps: int,
) -> None:
    """Logs network, data set and devices."""
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


def _finish(
    experiment: Experiment,
    subject: _Subject,
    model: keras.Model,
    dataset: ImageDataset,
    figures: dict[str, Any],
    outcome: Outcome,
) -> dict[str, Any]:
    """Draws the curve, writes card and models, and returns the content of metrics.json."""
    optimization, output = experiment.optimization, experiment.output
    workdir, split = Path(output.workdir), figures["split"]
    # Rows may have been lost, which is no reason to lose the run.
    needed = {"accuracy", "loss", "learning_rate"}
    epochs = [row for row in epochs_of(experiment) if needed <= row.keys()]
    last, accuracy = epochs[-1] if epochs else {}, figures[f"{split}_accuracy"]
    figures = {
        **{
            f"{which}_{name}": last[key]
            for name in ("accuracy", "subset_accuracy", "loss", "top5_accuracy")
            for which, key in (("train", name), ("val", f"val_{name}"))
            if key in last
        },
        # Where there are only training images, those of the trained model replace the last epoch's.
        **figures,
        **origin(),
    }
    seconds = figures["train_seconds"]
    key = accuracy_key(figures)
    share = f"{key.replace('_', ' ')} {100 * figures[f'{split}_{key}']:.2f} %"
    logger.info(f"{split} {share}, {seconds:.0f} s of training")
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

    figures["reload_difference"] = finish.save(model, dataset, card_of, experiment, outcome.others)
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
        title = f"{subject.name} on {dataset.name}"
        page.report_run(experiment, model, dataset, figures, title, outcome.evaluation)
    return figures
