"""Trained models exported for other programs, and their Hub modules read here. Needs TensorFlow."""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.export.handles import trust_module
    from keras_resnet.export.hub import export_hub
    from keras_resnet.export.hub_layer import HubLayer
    from keras_resnet.export.inference import ExportReport, export
    from keras_resnet.export.reading import ExportedModel, load_exported
    from keras_resnet.surgery.folding import fold_batch_norm
    from keras_resnet.weights.beside import labels_beside

__all__ = [
    "ExportReport",
    "ExportedModel",
    "HubLayer",
    "export",
    "export_hub",
    "fold_batch_norm",
    "labels_beside",
    "load_exported",
    "trust_module",
]
