"""Finished models for other programs, and other programs' modules for ours. Needs TensorFlow."""

from keras_resnet.export.artefacts import Artefact, labels_beside, load_artefact
from keras_resnet.export.hub import export_hub
from keras_resnet.export.hub_layer import HubLayer
from keras_resnet.export.inference import Exported, export
from keras_resnet.surgery.folding import fold_batch_norm

__all__ = [
    "Artefact",
    "Exported",
    "HubLayer",
    "export",
    "export_hub",
    "fold_batch_norm",
    "labels_beside",
    "load_artefact",
]
