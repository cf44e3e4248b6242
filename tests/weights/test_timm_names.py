"""Networks by timm's names: those that the builders make by hand."""

from __future__ import annotations

import pytest

import keras_resnet
from keras_resnet.architectures import identify
from keras_resnet.weights.timm_names import timm_network

NETWORKS = {
    "resnet26": "ResNet((2, 2, 2, 2), version='v1.5')",
    "tv_resnet50": "ResNet50(version='v1.5')",
    "gluon_resnet101c": "ResNet101(version='v1.5', deep_stem=True)",
    "resnet152s": "ResNet((3, 8, 36, 3), version='v1.5', deep_stem=True, stem_filters=128)",
    "resnet34d": "ResNet34D()",
    "resnet50d": "ResNet50D()",
    "seresnet50": "SEResNet50(version='v1.5')",
    "resnext50_32x4d": "ResNeXt50_32x4d()",
    "resnext101_32x8d": "ResNeXt101_32x8d()",
    "resnext50d_32x4d": "ResNeXt50_32x4d(deep_stem=True, shortcut_pool=True)",
    "seresnext101_64x4d": (
        "ResNet((3, 4, 23, 3), version='v1.5', groups=64, width_per_group=4, squeeze_excitation=16)"
    ),
    "wide_resnet50_2": "WideResNet50_2()",
    "legacy_seresnet50": "SEResNet50(stem_pool='ceil')",
    "legacy_seresnext50_32x4d": "SEResNeXt50_32x4d(stem_pool='ceil')",
    "resnetv2_18": "ResNet18V2(stem_pool='first')",
    "resnetv2_50": "ResNet50V2(stem_pool='first')",
    "resnetv2_50d": "ResNet50V2(stem_pool='first', deep_stem=True, shortcut_pool=True)",
    "seresnet18": "SEResNet18(version='v1.5', se_divisor=8)",
    "densenet121": "DenseNet121()",
    "densenet161": "DenseNet((6, 12, 36, 24), growth_rate=48)",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_by_their_names(name, no_draws):
    builder, arguments = timm_network(name)
    model = getattr(keras_resnet, builder)(**arguments)
    expected = eval(NETWORKS[name], vars(keras_resnet).copy())
    assert model.network.function() == expected.network.function()
    assert model.count_params() == expected.count_params()
    assert identify(arguments) == expected.network.architecture
