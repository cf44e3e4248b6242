"""Writes what transformers saves of small ResNets, and their outputs.

python tests/weights/transformers/make.py  # needs torch and transformers, 5.24 for the files here
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers.models.resnet.configuration_resnet import ResNetConfig
from transformers.models.resnet.modeling_resnet import ResNetForImageClassification

FOLDER = Path(__file__).parent
KINDS = {
    "bottleneck": {},
    "v1": {"downsample_in_bottleneck": True},
    "basic": {"layer_type": "basic", "hidden_sizes": [4, 8]},
}
SMALL = {"depths": [2, 1], "hidden_sizes": [16, 32], "embedding_size": 6, "num_labels": 3}

if __name__ == "__main__":
    outputs = {}
    for kind, options in KINDS.items():
        model = ResNetForImageClassification(ResNetConfig(**{**SMALL, **options})).eval()
        random = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, tensor in (*model.named_buffers(), *model.named_parameters()):
                if name.endswith(("var", "normalization.weight")):
                    tensor.uniform_(0.5, 1.5, generator=random)
                elif tensor.dtype.is_floating_point:
                    tensor.normal_(0, 0.3, generator=random)
            images = torch.randn(2, 3, 40, 32, generator=random)
            outputs[f"{kind}/images"] = images.permute(0, 2, 3, 1).numpy()
            outputs[f"{kind}/logits"] = model(images).logits.numpy()
        model.save_pretrained(FOLDER / kind)
    np.savez_compressed(FOLDER / "outputs.npz", **outputs)
