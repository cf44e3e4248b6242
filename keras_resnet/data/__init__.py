"""Data sets by name, as `tf.data` pipelines whose every batch is a function of the step.

Needs TensorFlow. Packages that a single data set is read with are imported when it is loaded.
"""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.data.check import DataReport, Duplicate, Finding, check_data
    from keras_resnet.data.dataset import ArrayDataset, ImageDataset
    from keras_resnet.data.encoded import BadImageWarning, EncodedDataset
    from keras_resnet.data.loading import load_dataset, option_names
    from keras_resnet.data.names import DATASETS
    from keras_resnet.data.transforms import Transforms

__all__ = [
    "DATASETS",
    "ArrayDataset",
    "BadImageWarning",
    "DataReport",
    "Duplicate",
    "EncodedDataset",
    "Finding",
    "ImageDataset",
    "Transforms",
    "check_data",
    "load_dataset",
    "option_names",
]
