"""Training on one device, several or several machines. Needs TensorFlow."""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.training.best import KeepBest
    from keras_resnet.training.checkpoints import Checkpoints
    from keras_resnet.training.choices import scaled_learning_rate
    from keras_resnet.training.distillation import Distillation
    from keras_resnet.training.logs import (
        MetricsLogger,
        Progress,
        TensorBoardScalars,
        read_epochs,
        read_records,
        tensorboard_installed,
    )
    from keras_resnet.training.losses import BinaryCrossEntropy, CrossEntropy
    from keras_resnet.training.mixing import Mixing
    from keras_resnet.training.optimizers import SGD, make_optimizer, sgd
    from keras_resnet.training.precision import DynamicLossScale, set_precision
    from keras_resnet.training.rate_finder import RangeTest, find_learning_rate
    from keras_resnet.training.schedules import ErrorWarmup, LinearWarmup, make_schedule
    from keras_resnet.training.stopping import Diverged, Terminated, TrainingStopped
    from keras_resnet.training.strategy import is_chief, layout, make_strategy
    from keras_resnet.training.trainer import Trainer

__all__ = [
    "SGD",
    "BinaryCrossEntropy",
    "Checkpoints",
    "CrossEntropy",
    "Distillation",
    "Diverged",
    "DynamicLossScale",
    "ErrorWarmup",
    "KeepBest",
    "LinearWarmup",
    "MetricsLogger",
    "RangeTest",
    "TensorBoardScalars",
    "Mixing",
    "Progress",
    "Terminated",
    "Trainer",
    "TrainingStopped",
    "find_learning_rate",
    "is_chief",
    "layout",
    "make_optimizer",
    "make_schedule",
    "make_strategy",
    "read_epochs",
    "read_records",
    "tensorboard_installed",
    "scaled_learning_rate",
    "set_precision",
    "sgd",
]
