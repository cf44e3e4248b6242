"""Networks of torchvision and timm, with random weights: the same outputs, and exactly back.

PyTorch runs in a subprocess (torch_models.py): with TensorFlow in one process both end it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import keras_resnet
from keras_resnet.weights import save_torch_weights
from tests.helpers import distance

MISSING = [name for name in ("torchvision", "timm") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}"),
]

SCRIPT = Path(__file__).with_name("torch_models.py")
# As README has it; the largest seen is 1.2e-6.
TOLERANCE = 1e-5
V1_5 = {"version": "v1.5"}
NETWORKS = {
    f"{library}resnet{depth}": (f"ResNet{depth}", V1_5 if depth >= 50 else {})
    for library in ("", "timm/")
    for depth in (18, 34, 50, 101, 152)
}
NETWORKS |= {
    "wide_resnet50_2": ("WideResNet50_2", {}),
    "resnext50_32x4d": ("ResNeXt50_32x4d", {}),
    "timm/resnet18d": ("ResNet18D", {}),
    "timm/resnet50d": ("ResNet50D", {}),
    "timm/seresnet50": ("SEResNet50", V1_5),
    "timm/resnet26": ("ResNet26", {}),
    "timm/seresnext50_32x4d": ("SEResNeXt50_32x4d", {}),
    "timm/seresnet18": ("SEResNet18", {"se_divisor": 8}),
    "timm/legacy_seresnet50": ("SEResNet50", {"stem_pool": "ceil"}),
    "timm/legacy_seresnext50_32x4d": ("SEResNeXt50_32x4d", {"stem_pool": "ceil"}),
    "timm/resnetv2_18": ("ResNet18V2", {"stem_pool": "first"}),
    "timm/resnetv2_50": ("ResNet50V2", {"stem_pool": "first"}),
    "timm/resnetv2_50d": (
        "ResNet50V2",
        {"stem_pool": "first", "deep_stem": True, "shortcut_pool": True},
    ),
    "densenet121": ("DenseNet121", {}),
    "timm/densenet169": ("DenseNet169", {}),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_same_outputs_and_back(tmp_path, subprocess_python, name):
    subprocess_python(SCRIPT, "write", tmp_path, name, timeout=300)
    builder, options = NETWORKS[name]
    path = tmp_path / name.replace("/", "_")
    with np.load(f"{path}.npz") as stored:
        images, logits = stored["images"].transpose(0, 2, 3, 1), stored["logits"]
    for ending in (".safetensors", ".pth", ".legacy.pth"):
        model = getattr(keras_resnet, builder)(
            weights=f"{path}{ending}",
            input_shape=images.shape[1:],
            classifier_activation=None,
            **options,
        )
        assert distance(model(images), logits) < TOLERANCE
    for ending in (".safetensors", ".pth"):
        save_torch_weights(model, f"{path}.back{ending}")
    # Every tensor equal, loaded strictly, and the same outputs again.
    subprocess_python(SCRIPT, "read", tmp_path, name, timeout=300)
