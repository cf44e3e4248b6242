"""Experiments, from settings to a model trained, tested, saved and verified. TensorFlow."""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.experiment.factories import build_model
    from keras_resnet.experiment.finish import fine_tune
    from keras_resnet.experiment.pushing import push
    from keras_resnet.experiment.rate_finding import find_learning_rate
    from keras_resnet.experiment.runner import run
    from keras_resnet.experiment.settings import (
        Data,
        Devices,
        Experiment,
        Network,
        Optimization,
        Output,
    )
    from keras_resnet.experiment.study import StudyRun, run_study

if TYPE_CHECKING:  # Modules that are attributes, as `deferred` says.
    from keras_resnet.experiment import forms as forms
    from keras_resnet.experiment import growth as growth
    from keras_resnet.experiment import publishing as publishing
    from keras_resnet.experiment import quantization as quantization
    from keras_resnet.experiment import reports as reports
    from keras_resnet.experiment import shrinking as shrinking
    from keras_resnet.experiment import slimming as slimming

__all__ = [
    "Data",
    "Devices",
    "Experiment",
    "Network",
    "Optimization",
    "Output",
    "StudyRun",
    "build_model",
    "find_learning_rate",
    "fine_tune",
    "push",
    "run",
    "run_study",
]
