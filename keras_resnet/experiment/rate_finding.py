"""The range test of learning rates for an experiment's network, data and optimizer. TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from keras_resnet import training
from keras_resnet.analysis.plots import range_test
from keras_resnet.experiment.factories import (
    build_model,
    optimizer_of,
    rates_of,
    trainer_options,
)
from keras_resnet.experiment.runner import opened
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.targets import make_loss
from keras_resnet.surgery import freeze
from keras_resnet.utils.files import write_json
from keras_resnet.utils.terminal import RESULTS


def find_learning_rate(experiment: Experiment, **options: Any) -> dict[str, Any]:
    """Runs `training.find_learning_rate` on what an experiment would train.

    Writes learning_rates.png, .svg, .csv and .json to its `workdir`, and nothing else: a run there
    may follow, or may have been.

    Args:
        experiment: The settings. Their learning rate and schedule are not used.
        **options: `lowest`, `highest`, `steps`, `smoothing` and `divergence`.

    Returns:
        The content of learning_rates.json: `suggestion`, the learning rate or None, and `steps`,
        which the test has done.

    Raises:
        ValueError: As `run` does.
    """
    optimization = experiment.optimization
    with opened(experiment, lambda: None) as (strategy, dataset):
        keras.utils.set_random_seed(optimization.seed)
        with strategy.scope():
            model = build_model(experiment, dataset)
        if experiment.network.init is not None:
            freeze(model, 0, bn=experiment.network.freeze_bn)
        found = training.find_learning_rate(
            model,
            lambda schedule: optimizer_of(experiment, schedule, rates_of(experiment, model)),
            make_loss(optimization, dataset),
            dataset,
            optimization.batch_size,
            seed=optimization.seed,
            sampling=optimization.sampling,
            **trainer_options(experiment, strategy, dataset),
            **options,
        )
        figures = {"suggestion": found.suggestion, "steps": len(found.losses)}
        if training.is_chief(strategy):
            workdir = Path(experiment.output.workdir)
            title = f"{model.name} on {dataset.name}, batch {optimization.batch_size}"
            path = workdir / "learning_rates.png"
            range_test(found.rows(), path, title=title, suggestion=found.suggestion)
            write_json(workdir / "learning_rates.json", figures)
            advice = "the loss never falls"
            if found.suggestion is not None:
                advice = f"the loss falls fastest at {found.suggestion:.2g}"
            RESULTS.info(f"{title}: {advice}; see {path}")
        return figures
