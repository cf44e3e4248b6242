"""The figures of a trained network on the last split, each measured once. Needs TensorFlow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnet import training
from keras_resnet.data import ImageDataset
from keras_resnet.evaluation import Evaluation, MultiLabelEvaluation
from keras_resnet.evaluation.recording import recorder_for
from keras_resnet.experiment.settings import Experiment
from keras_resnet.training.strategy import is_only_worker


class Outcome(NamedTuple):
    """Results of a trained network.

    Attributes:
        figures: Loss and metrics on the last split, for metrics.json.
        others: Weights that were not chosen, by the name of their file.
        evaluation: The predictions that the figures are of, where they were recorded.
    """

    figures: dict[str, Any]
    others: Mapping[str, list[np.ndarray]]
    evaluation: Evaluation | MultiLabelEvaluation | None


def last_validation(
    experiment: Experiment,
    trainer: training.Trainer,
    dataset: ImageDataset,
    history: keras.callbacks.History,
) -> dict[str, float] | None:
    """Returns the figures of the last epoch, if they are those of the weights on the last split.

    They are not where weights are averaged, nor where this process trained no epoch.
    """
    watched = experiment.data.validation_split
    if trainer.optimizer.use_ema or watched != dataset.splits[-1] or not history.epoch:
        return None
    figures = {
        name.removeprefix("val_"): values[-1]
        for name, values in history.history.items()
        if name.startswith("val_")
    }
    return figures or None


def measure(
    experiment: Experiment,
    trainer: training.Trainer,
    dataset: ImageDataset,
    best: training.KeepBest | None,
    known: dict[str, float] | None,
) -> Outcome:
    """Evaluates the last and the best weights, and leaves the chosen ones in the model.

    Args:
        experiment: The settings.
        trainer: Holds the trained network.
        dataset: The data.
        best: What kept the best weights, if anything did.
        known: Figures of the last weights, where they were measured already.
    """
    model, split = trainer.model, dataset.splits[-1]
    weights = {"last": model.get_weights()}
    if best is not None:
        for place in range(len(best.epochs)):
            weights["best" if place == 0 else f"best-{place + 1}"] = best.weights(place)
    chosen = experiment.optimization.final_weights
    if chosen not in weights:
        chosen = "last"
        warnings.warn("No epoch is best: none has the monitored figure", stacklevel=3)
    record = None
    if experiment.output.report and is_only_worker(trainer.strategy):
        record = recorder_for(model, dataset, split)

    def evaluated(which: str, **options: Any) -> dict[str, float]:
        with trainer.strategy.scope():
            model.set_weights(weights[which])
        return trainer.evaluate(dataset, split, experiment.optimization.batch_size, **options)

    own = known if chosen == "last" and record is None else None
    own = own or evaluated(chosen, on_batch=record)
    figures = {"split": split, **{f"{split}_{name}": value for name, value in own.items()}}
    for which in sorted({"last", "best"} & weights.keys() - {chosen}):
        if _same(weights[which], weights[chosen]):
            other = own
        else:
            other = (known if which == "last" else None) or evaluated(which)
        figures |= {f"{which}_{split}_{name}": value for name, value in other.items()}
    figures |= {f"{split}_images": trainer.evaluated_images, "final_weights": chosen}
    with trainer.strategy.scope():
        model.set_weights(weights.pop(chosen))
    return Outcome(figures, weights, None if record is None else record.evaluation())


def _same(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    return all(map(np.array_equal, some, others))
