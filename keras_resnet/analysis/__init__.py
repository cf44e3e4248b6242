"""What a network costs and how it behaves, as data; drawing is left to `analysis.plots`."""

from keras_resnet.analysis.complexity import Complexity, LayerCost, complexity

__all__ = ["Complexity", "LayerCost", "complexity"]
