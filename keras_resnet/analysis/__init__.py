"""What a network costs and how it behaves, as data; drawing is left to `analysis.plots`."""

from keras_resnet.analysis.comparison import Entry, compare
from keras_resnet.analysis.cost import Cost, measure, measure_apart
from keras_resnet.analysis.counting import Complexity, LayerCost, complexity
from keras_resnet.analysis.responses import LayerResponse, layer_responses

__all__ = [
    "Complexity",
    "Cost",
    "Entry",
    "LayerCost",
    "LayerResponse",
    "compare",
    "complexity",
    "layer_responses",
    "measure",
    "measure_apart",
]
