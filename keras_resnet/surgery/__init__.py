"""Changes of trained networks: classifiers, backbones, dilation, depth, width, freezing, 8 bits."""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.network import Backbone, Feature, preprocessing_of, remembered
    from keras_resnet.surgery.backbones import backbone
    from keras_resnet.surgery.conversion import any_size, score_map, with_logits
    from keras_resnet.surgery.deepening import deepen
    from keras_resnet.surgery.folding import fold_batch_norm
    from keras_resnet.surgery.freezing import freeze, stage_rates
    from keras_resnet.surgery.heads import replace_classifier
    from keras_resnet.surgery.quantizing import quantize_aware, round_biases
    from keras_resnet.surgery.rebuilding import dilate, rebuild
    from keras_resnet.surgery.slimming import slim

__all__ = [
    "Backbone",
    "Feature",
    "any_size",
    "backbone",
    "deepen",
    "dilate",
    "fold_batch_norm",
    "freeze",
    "preprocessing_of",
    "quantize_aware",
    "rebuild",
    "remembered",
    "replace_classifier",
    "round_biases",
    "score_map",
    "slim",
    "stage_rates",
    "with_logits",
]
