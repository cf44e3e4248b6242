"""Cost and behavior of networks, as data; `analysis.plots` draws them."""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.analysis.activation_maps import class_activation_maps
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
    "class_activation_maps",
    "compare",
    "complexity",
    "layer_responses",
    "measure",
    "measure_apart",
]
