"""Search with keras-tuner: the space, the candidates, and the conductor of one search."""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.experiment.search import searching

__all__ = ["searching"]
