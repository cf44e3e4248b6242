"""Whole experiments: settings in, a trained, tested, saved and re-read model out. TensorFlow."""

from keras_resnet.experiment.finish import fine_tune
from keras_resnet.experiment.run import build_model, run
from keras_resnet.experiment.settings import Experiment

__all__ = ["Experiment", "build_model", "fine_tune", "run"]
