"""Whole experiments: settings in, a trained, tested, saved and re-read model out. TensorFlow."""

from keras_resnet.experiment.finish import fine_tune
from keras_resnet.experiment.runner import build_model, run
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.study import StudyRun, run_study

__all__ = ["Experiment", "StudyRun", "build_model", "fine_tune", "run", "run_study"]
