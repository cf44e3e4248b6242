"""What a network costs and how it behaves, as data; drawing is left to `analysis.plots`."""

from keras_resnet.analysis.complexity import Complexity, LayerCost, complexity
from keras_resnet.analysis.responses import LayerResponse, layer_responses

__all__ = ["Complexity", "LayerCost", "LayerResponse", "complexity", "layer_responses"]
