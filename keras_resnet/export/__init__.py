"""Finished models for other programs, and other programs' modules for ours. Needs TensorFlow."""

from keras_resnet.export.folding import fold_batch_norm
from keras_resnet.export.hub import export_hub
from keras_resnet.export.hub_layer import HubLayer

__all__ = ["HubLayer", "export_hub", "fold_batch_norm"]
