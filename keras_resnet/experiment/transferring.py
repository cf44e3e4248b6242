"""A finished network on other images, against one from scratch. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from keras_resnet.experiment.factories import build_model, load_data
from keras_resnet.experiment.reports import side_by_side
from keras_resnet.experiment.settings import Data, Experiment, Optimization
from keras_resnet.experiment.study import run_study

# What the recipe carries over where nothing else is given: all images of seven of the digits.
FIRST_DIGITS = Experiment(
    data=Data("digits", data_options={"classes": (0, 1, 2, 3, 4, 5, 6)}),
    optimization=Optimization(epochs=30, warmup="linear"),
)


def pretrain(settings: Experiment, jobs: int | None = None) -> str:
    """Trains the network of `settings` on the digits 0 to 6, in a folder of its workdir.

    Returns:
        The path of the finished model.

    Raises:
        ValueError: If `settings` is about other images.
        TrainingStopped: If training cannot go on.
    """
    if settings.data.dataset != "digits":
        raise ValueError(
            "`init` must name a finished network for another data set than the digits. "
            f"Received: dataset={settings.data.dataset!r} without init"
        )
    taken = (
        *("model", "depth", "block", "widening", "shortcut", "version", "squeeze_excitation"),
        *("precision", "deterministic"),
    )
    own = settings.flat()
    first = FIRST_DIGITS.replace(**{name: own[name] for name in taken})
    (run,) = run_study({"pretrained": first}, [0], settings.output.workdir, jobs=jobs)
    return str(run.workdir / "model.keras")


def transfer(
    settings: Experiment, seeds: Sequence[int], *, scratch: bool = True, jobs: int | None = None
) -> list[dict[str, object]]:
    """Fine-tunes `settings.init` with every seed, and trains `settings.model` from random values.

    From scratch means `settings.model` on the same images, for as many epochs as head and rest
    have together, at the same rate for all layers.

    Writes to `settings.workdir` what `side_by_side` writes: a folder per run, comparison.png and
    curves.png, table.csv and table.json.

    Args:
        settings: The fine-tuning, with `init` given.
        seeds: Seeds of the classifier, the order and the augmentation.
        scratch: Whether to train from random values too.
        jobs: As in `run_study`.

    Returns:
        The table's rows.

    Raises:
        ValueError: If a setting is wrong.
        TrainingStopped: If a run cannot go on.
    """
    experiments, network = {"fine-tuned": settings}, settings.network
    if scratch:
        experiments["from scratch"] = settings.replace(
            init=None,
            head_epochs=0,
            freeze_bn=False,
            rate_decay=1.0,
            epochs=settings.optimization.head_epochs + settings.optimization.epochs,
        )
    # Once here, so that what does not fit is said before anything is written; not on a GPU, whose
    # memory the runs will want.
    tf.config.set_visible_devices([], "GPU")
    build_model(settings, load_data(settings.data))
    name = Path(network.init).name if network.init_is_model else network.init
    return side_by_side(experiments, settings, seeds, title=f"From {name}", jobs=jobs)
