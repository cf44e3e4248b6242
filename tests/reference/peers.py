"""Networks of torchvision and timm with the drawn weights, by the names of our layers.

Needs torch, torchvision and timm; nothing of `keras_resnet`.
"""

from __future__ import annotations

import re

import numpy as np
import timm
import torch
import torchvision

from . import cases, weights

# Their names of modules, and ours. Blocks: those of both libraries' ResNets, then those of timm's
# pre-activation ones, whose first normalization of all is our stem's.
NAMES = [
    (r"conv1", "conv1_conv"),
    (r"bn1", "conv1_bn"),
    (r"conv1\.(0|3|6)", lambda m: f"conv1_{int(m[1]) // 3 + 1}_conv"),
    (r"conv1\.(1|4)", lambda m: f"conv1_{int(m[1]) // 3 + 1}_bn"),
    (r"layer(\d)\.(\d+)\.(conv|bn)(\d)", lambda m: f"{_block(m, 1)}_{m[4]}_{m[3]}"),
    (r"layer(\d)\.(\d+)\.downsample\.conv", lambda m: f"{_block(m, 1)}_0_conv"),
    (r"layer(\d)\.(\d+)\.downsample\.norm", lambda m: f"{_block(m, 1)}_0_bn"),
    (r"layer(\d)\.(\d+)\.se\.fc1", lambda m: f"{_block(m, 1)}_se_reduce"),
    (r"layer(\d)\.(\d+)\.se\.fc2", lambda m: f"{_block(m, 1)}_se_expand"),
    (r"layer0\.conv1", "conv1_conv"),
    (r"layer0\.bn1", "conv1_bn"),
    (r"layer(\d)\.(\d+)\.se_module\.fc1", lambda m: f"{_block(m, 1)}_se_reduce"),
    (r"layer(\d)\.(\d+)\.se_module\.fc2", lambda m: f"{_block(m, 1)}_se_expand"),
    (r"stem\.conv", "conv1_conv"),
    (r"stages\.0\.blocks\.0\.norm1", "conv1_bn"),
    (r"stages\.(\d)\.blocks\.(\d+)\.norm1", lambda m: f"{_block(m, 2)}_preact_bn"),
    (r"stages\.(\d)\.blocks\.(\d+)\.norm(\d)", lambda m: f"{_block(m, 2)}_{int(m[3]) - 1}_bn"),
    (r"stages\.(\d)\.blocks\.(\d+)\.conv(\d)", lambda m: f"{_block(m, 2)}_{m[3]}_conv"),
    (r"stages\.(\d)\.blocks\.(\d+)\.downsample\.conv", lambda m: f"{_block(m, 2)}_0_conv"),
    (r"norm", "post_bn"),
    (r"fc|head\.fc|last_linear", "predictions"),
]

# What may stand behind a name of timm's: "timm/resnet18:silu".
CHANGES = {"": {}, "silu": {"act_layer": "silu"}, "group": {"norm_layer": "groupnorm"}}


def _block(match, first_stage):
    return f"conv{int(match[1]) + first_stage}_block{int(match[2]) + 1}"


class Peer:
    """The forward pass of one case; `stages` has the outputs of its stages after a call."""

    def __init__(self, case: cases.Case):
        library, _, name = case.peer.partition("/")
        name, _, change = name.partition(":")
        if library == "torchvision":
            module = torchvision.models.get_model(name, weights=None, num_classes=case.classes)
        else:
            module = timm.create_model(name, num_classes=case.classes, **CHANGES[change])
        if change == "group":
            standardize(module)
        self.module = module.double().eval()
        self.layers = our_names(module)
        if case.options.get("stem_pool") == "first":
            self.layers["stages.0.blocks.0.norm1"] = "conv2_block1_preact_bn"
        self.fill()
        self.stages = {}
        stages = getattr(module, "stages", None) or [
            getattr(module, f"layer{i}") for i in range(1, 5)
        ]
        for i, stage in enumerate(stages):
            # timm has the blocks of a stage one module further down.
            blocks = len(getattr(stage, "blocks", stage))
            stage.register_forward_hook(self.keeper(f"conv{i + 2}_block{blocks}_out"))

    def keeper(self, name):
        def keep(module, inputs, output):
            self.stages[name] = output

        return keep

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [batch, channels, height, width] to logits [batch, classes]."""
        return self.module(images)

    def fill(self) -> None:
        # Their additions have no names; every block here has one.
        names = {*self.layers.values()}
        names |= {name.removesuffix("_1_conv") + "_add" for name in names}
        for name, layer in self.layers.items():
            module = self.module.get_submodule(name)
            dense = not layer.endswith(("_bn", "_gn"))
            for key, value in module.state_dict().items():
                if key == "num_batches_tracked":
                    continue
                shape, axes = tuple(value.shape), None
                variable = {
                    "weight": "kernel" if dense else "gamma",
                    "bias": "bias" if dense else "beta",
                    "running_mean": "moving_mean",
                    "running_var": "moving_variance",
                }[key]
                kind = variable
                if variable == "gamma" and weights.ends_residual_branch(layer, names):
                    kind = "residual_gamma"
                if variable == "kernel" and layer == "predictions":
                    # Where it is a convolution, over one pixel.
                    shape, axes = (shape[1], shape[0]), (1, 0)
                elif variable == "kernel":
                    shape, axes = (shape[2], shape[3], shape[1], shape[0]), (3, 2, 0, 1)
                drawn = weights.draw(f"{layer}/{variable}", shape, kind)
                drawn = np.ascontiguousarray(drawn.transpose(axes) if axes else drawn)
                getattr(module, key).data.copy_(torch.from_numpy(drawn).reshape(value.shape))


def our_names(module: torch.nn.Module) -> dict[str, str]:
    """Maps the names of a network's modules that have weights to those of our layers."""
    found = {}
    for name, part in module.named_modules():
        if not [*part.parameters(recurse=False)]:
            continue
        # The projection is the only convolution of a `downsample`, whatever stands before it.
        kind = "conv" if isinstance(part, torch.nn.Conv2d) else "norm"
        generic = re.sub(r"downsample\.\d", f"downsample.{kind}", name)
        matches = [(re.fullmatch(pattern, generic), ours) for pattern, ours in NAMES]
        match, ours = next((match, ours) for match, ours in matches if match)
        ours = ours if isinstance(ours, str) else ours(match)
        if isinstance(part, torch.nn.GroupNorm):
            ours = ours.replace("_bn", "_gn")
        found[name] = ours
    if "conv1_1_conv" in found.values():  # a deep stem, whose last normalization is `bn1`
        found["bn1"] = "conv1_3_bn"
    return found


def standardize(module: torch.nn.Module) -> None:
    """Replaces convolutions by timm's with standardized kernels."""
    for name, part in [*module.named_modules()]:
        if type(part) is torch.nn.Conv2d:
            parent = module.get_submodule(name.rpartition(".")[0])
            replaced = timm.layers.StdConv2d(
                *(part.in_channels, part.out_channels, part.kernel_size[0]),
                stride=part.stride,
                padding=part.padding,
                bias=False,
            )
            setattr(parent, name.rpartition(".")[2], replaced)
