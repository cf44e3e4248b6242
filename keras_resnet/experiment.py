"""One experiment from settings to finished model: train, evaluate, save, load back, compare.

Needs TensorFlow. The recipes are settings of `Experiment` and a call of `run`.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shlex
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import checks, models
from keras_resnet.analysis.complexity import complexity
from keras_resnet.analysis.plots import learning_curve, require_matplotlib
from keras_resnet.architectures import Architecture, find_architecture
from keras_resnet.card import model_card
from keras_resnet.data import ImageDataset, load_dataset
from keras_resnet.export import HubLayer, export_hub
from keras_resnet.files import replacing, write_json, write_text
from keras_resnet.training import (
    MetricsLogger,
    Progress,
    Trainer,
    layout,
    make_schedule,
    make_strategy,
    read_records,
    set_precision,
    sgd,
)
from keras_resnet.version import __version__

# Reloaded models answer the same up to rounding: the graph may fuse operations in another order.
RELOAD_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Settings of one experiment; a run is a function of these and of the software's versions.

    Attributes:
        model: Named network of the table.
        depth: Layers, 6n+2, of a CIFAR network that replaces `model`; None for `model`.
        shortcut: "A", "B", "C", "none" for the plain net, or None for the network's own.
        dataset: Name of the data set.
        data_dir: Where its files lie, or None.
        workdir: Folder that everything is written to.
        gpus: GPUs to train on, or None.
        virtual_devices: Logical CPU devices to train on, or None.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
        batch_size: Images per step over all devices.
        epochs: Passes over the training images.
        steps: Steps, in place of epochs.
        learning_rate: Rate after the warm-up.
        warmup: Share of all steps over which the rate rises from 0, in [0, 1).
        drops: Shares of all steps after which the rate is divided by 10.
        momentum: Of SGD.
        weight_decay: Factor of the weight in its gradient (L2), on all trainable weights.
        seed: Of initial values, order and augmentation.
        deterministic: Whether operations may only be those that repeat bit for bit.
    """

    model: str = "ResNet20"
    depth: int | None = None
    shortcut: str | None = None
    dataset: str = "digits"
    data_dir: str | None = None
    workdir: str = "runs/digits"
    gpus: int | None = None
    virtual_devices: int | None = None
    precision: str = "float32"
    batch_size: int = 128
    epochs: int = 60
    steps: int | None = None
    learning_rate: float = 0.1
    warmup: float = 0.05
    # The paper's 32k and 48k of 64k iterations.
    drops: tuple[float, ...] = (0.5, 0.75)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    seed: int = 0
    deterministic: bool = False

    @property
    def architecture(self) -> Architecture:
        """The network's line of the table, its shortcut replaced where asked for.

        Raises:
            ValueError: If model, depth or shortcut is not one that there is.
        """
        shortcut = self.shortcut
        if shortcut is not None:
            checks.one_of("shortcut", shortcut, ("A", "B", "C", "none"))
            shortcut = None if shortcut == "none" else shortcut
        if self.depth is not None:
            return models.cifar_architecture(self.depth, shortcut if self.shortcut else "A")
        architecture = find_architecture(self.model)
        if self.shortcut is None or shortcut == architecture.shortcut:
            return architecture
        name = f"{architecture.name}-{'plain' if shortcut is None else shortcut}"
        return dataclasses.replace(architecture, name=name, shortcut=shortcut)


def run(experiment: Experiment) -> dict[str, object]:
    """Trains, evaluates, saves, loads back, compares, and fine-tunes what was exported.

    Writes to `experiment.workdir`: config.json; metrics.csv and metrics.jsonl, a row per logging
    interval and epoch; learning_curve.png, .svg and .csv; model.keras, which takes images in
    [0, 255] and gives probabilities; saved_model and feature_vector, Hub modules that take images
    in [0, 1] and give logits and features; model_card.md; and last metrics.json, whose presence
    says that the run is finished.

    Returns:
        What metrics.json holds: `test_accuracy` and the rest.

    Raises:
        ValueError: If a setting is wrong, or `workdir` holds another run.
    """
    workdir = Path(experiment.workdir)
    finished = _finished_metrics(experiment, workdir)
    if finished is not None:
        print(f"{workdir} holds this run, finished: nothing to do.")
        return finished

    require_matplotlib()
    strategy = make_strategy(gpus=experiment.gpus, virtual_devices=experiment.virtual_devices)
    if experiment.deterministic:
        tf.config.experimental.enable_op_determinism()
    set_precision(experiment.precision)
    dataset = load_dataset(experiment.dataset, experiment.data_dir)
    steps = _steps(experiment, dataset)
    keras.utils.set_random_seed(checks.integer("seed", experiment.seed, minimum=0))
    with strategy.scope():
        model = build_model(experiment.architecture, dataset)
        schedule = _schedule(experiment, steps)
        optimizer = sgd(
            schedule, momentum=experiment.momentum, weight_decay=experiment.weight_decay
        )
    metric = keras.metrics.SparseCategoricalAccuracy("accuracy")
    loss = "sparse_categorical_crossentropy"
    trainer = Trainer(model, optimizer, loss, [metric], strategy=strategy)

    write_json(workdir / "config.json", dataclasses.asdict(experiment))
    cost = complexity(model)
    print(
        f"{experiment.architecture.name}: {cost.parameters:,} parameters, "
        f"{cost.multiply_adds / 1e6:.1f} million multiply-adds per image. {dataset.name}: "
        f"{dataset.num_examples('train')} training images, {steps} steps.\n"
        f"{layout(strategy, experiment.batch_size)}, {experiment.precision}; writing to {workdir}"
    )
    started = time.perf_counter()
    trainer.fit(
        dataset,
        experiment.batch_size,
        steps=steps,
        seed=experiment.seed,
        callbacks=[Progress(), MetricsLogger(workdir)],
    )
    seconds = time.perf_counter() - started
    test = trainer.evaluate(dataset, "test", experiment.batch_size)
    epochs = [row for row in read_records(workdir / "metrics.jsonl") if row["kind"] == "epoch"]
    last = epochs[-1]
    metrics = {
        "test_accuracy": test["accuracy"],
        "test_loss": test["loss"],
        "test_images": dataset.num_examples("test"),
        "train_accuracy": last["accuracy"],
        "train_loss": last["loss"],
        **{key: last[key] for key in ("val_accuracy", "val_loss") if key in last},
        "epochs": last["epoch"],
        "steps": steps,
        "train_seconds": round(seconds, 1),
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "seed": experiment.seed,
        "command": shlex.join(["python", *sys.argv]),
        "versions": versions(),
    }
    print(f"test accuracy {100 * test['accuracy']:.2f} % after {seconds:.0f} s of training")
    learning_curve(
        epochs,
        workdir / "learning_curve.png",
        title=f"{experiment.architecture.name} on {dataset.name}, seed {experiment.seed}",
        test_error=1 - test["accuracy"],
    )
    metrics |= _save(experiment, model, dataset, metrics, workdir)
    metrics |= fine_tune(
        workdir / "feature_vector", dataset, batch_size=experiment.batch_size, seed=experiment.seed
    )
    write_json(workdir / "metrics.json", metrics)
    print(f"Everything is in {workdir}: begin with model_card.md and learning_curve.png")
    return metrics


def fine_tune(
    module: str | Path,
    dataset: ImageDataset,
    *,
    batch_size: int,
    epochs: int = 5,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> dict[str, float]:
    """Puts a new classifier on a feature-vector module and trains both, on one device.

    Args:
        module: Folder of a Hub module that takes images in [0, 1].
        dataset: What to train and test on.
        batch_size: Images per step.
        epochs: Passes over the training images.
        learning_rate: Highest rate; it falls to 0 along a cosine.
        seed: Of the classifier, the order and the augmentation.

    Returns:
        `fine_tuned_test_accuracy`, and `fine_tuned_epochs`.
    """
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(seed)
    images = keras.Input(dataset.image_shape)
    features = HubLayer(module, trainable=True)(keras.layers.Rescaling(1 / 255)(images))
    scores = keras.layers.Dense(len(dataset.class_names), activation="softmax")(features)
    steps = epochs * dataset.steps_per_epoch(batch_size)
    trainer = Trainer(
        keras.Model(images, scores),
        sgd(make_schedule("cosine", learning_rate, total_steps=steps)),
        "sparse_categorical_crossentropy",
        [keras.metrics.SparseCategoricalAccuracy("accuracy")],
        # Saved modules do not load into a strategy of several devices.
        strategy=tf.distribute.get_strategy(),
    )
    trainer.fit(dataset, batch_size, steps=steps, seed=seed, validation_split=None)
    accuracy = trainer.evaluate(dataset, "test", batch_size)["accuracy"]
    print(f"feature_vector, fine-tuned {epochs} epochs under a new classifier: {accuracy:.4f} test")
    return {"fine_tuned_test_accuracy": accuracy, "fine_tuned_epochs": epochs}


def build_model(architecture: Architecture, dataset: ImageDataset) -> keras.Model:
    """Builds a network with the data set's standardisation in front of it.

    Args:
        architecture: Line of the table.
        dataset: Data set: its image shape, classes, mean and standard deviation.

    Returns:
        A model from images in [0, 255], `(batch, H, W, C)`, to class probabilities.
    """
    images = keras.Input(dataset.image_shape)
    standardized = keras.layers.Normalization(
        mean=dataset.mean,
        variance=[std**2 for std in dataset.std],
        dtype="float32",
        name="preprocessing",
    )(images)
    classes = len(dataset.class_names)
    return models.build(architecture, input_tensor=standardized, classes=classes)


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    return {
        "keras_resnet": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
    }


def _finished_metrics(experiment, workdir):
    """Returns the metrics of this very run if `workdir` holds it finished, else None."""
    config, metrics = workdir / "config.json", workdir / "metrics.json"
    if not config.exists():
        return None
    # Through JSON, as the file went: tuples become lists.
    own = json.loads(json.dumps(dataclasses.asdict(experiment)))
    held = json.loads(config.read_text(encoding="utf-8"))
    different = [key for key in own | held if own.get(key) != held.get(key) and key != "workdir"]
    if different:
        raise ValueError(
            f"`workdir` holds a run with another {', '.join(different)}; choose a new folder. "
            f"Received: workdir={str(workdir)!r}"
        )
    return json.loads(metrics.read_text(encoding="utf-8")) if metrics.exists() else None


def _steps(experiment, dataset):
    per_epoch = dataset.steps_per_epoch(experiment.batch_size)
    if experiment.steps is not None:
        return checks.integer("steps", experiment.steps)
    return checks.integer("epochs", experiment.epochs) * per_epoch


def _schedule(experiment, steps):
    rate = checks.positive("learning_rate", experiment.learning_rate)
    boundaries = sorted({max(1, round(drop * steps)) for drop in experiment.drops})
    return make_schedule(
        "steps" if boundaries else "constant",
        rate,
        total_steps=steps,
        boundaries=boundaries,
        warmup_steps=round(checks.fraction("warmup", experiment.warmup) * steps),
    )


def _save(experiment, model, dataset, metrics, workdir):
    """Writes every form of the finished model, loads each back and compares its answers."""
    images, _, _ = next(iter(dataset.eval_batches("test", experiment.batch_size)))
    images = np.asarray(images, "float32")
    answers = model.predict(images, verbose=0)
    labels = list(dataset.class_names)

    with replacing(workdir / "model.keras") as temporary:
        model.save(temporary)
    reloaded = keras.models.load_model(workdir / "model.keras").predict(images, verbose=0)
    differences = {"model.keras": _difference(answers, reloaded)}

    card = model_card(experiment.architecture, dataset, dataclasses.asdict(experiment), metrics)
    write_text(workdir / "model_card.md", card)
    for name, kind in (("saved_model", "classification"), ("feature_vector", "feature_vector")):
        export_hub(model, workdir / name, kind, labels=labels, card=card, overwrite=True)
    logits = tf.saved_model.load(workdir / "saved_model")(images / 255)
    differences["saved_model"] = _difference(answers, tf.nn.softmax(logits))
    worst = max(differences.values())
    if not worst <= RELOAD_TOLERANCE:
        raise RuntimeError(
            f"A saved model answers otherwise than the trained one, by up to {worst:.2g} where "
            f"{RELOAD_TOLERANCE} is allowed: {differences}"
        )
    print(f"model.keras and saved_model answer as the trained model does, to {worst:.1g}")
    return {"reload_difference": differences}


def _difference(expected, received):
    return float(np.max(np.abs(np.asarray(expected) - np.asarray(received))))
