"""Computes the outputs that the Keras networks are compared with, in PyTorch and in float64.

Written from the papers (arXiv 1512.03385, 1603.05027) and on `torch.nn.functional` alone: nothing
here is shared with `keras_resnet` but the names of the layers. Some of the wider family are
computed by torchvision and timm instead (`peers.py`). To make the file again:

    python -m tests.reference.make_torch_outputs
"""

from __future__ import annotations

import dataclasses
import io
import json
import os

import numpy as np
import torch
from torch.nn import functional

from . import cases, weights

EPSILON = 1e-5

# Table 1: blocks per stage and whether they are bottlenecks.
IMAGENET = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


class Network:
    """The forward pass of one case; weights are drawn at their first use.

    After a call with `training=True`, `parameters` holds the leaves that have gradients and
    `statistics` the moving statistics as Keras would leave them; `margin` is the smallest absolute
    value that a ReLU was given.
    """

    def __init__(self, case: cases.Case, training: bool = False):
        self.case = case
        self.training = training
        self.parameters: dict[str, torch.Tensor] = {}
        self.statistics: dict[str, torch.Tensor] = {}
        self.stages: dict[str, torch.Tensor] = {}
        self.margin = float("inf")
        self.layout = case.layout
        if case.layout is None and case.family == "imagenet":
            self.layout = cases.Layout(*IMAGENET[case.depth], stem=64, width=64)
        elif case.layout is None:
            n = (case.depth - 2) // 6
            self.layout = cases.Layout((n, n, n), bottleneck=False, stem=16, width=16)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [batch, channels, height, width] to logits [batch, classes]."""
        layout = self.layout
        if self.case.family == "imagenet":
            x = self.conv(images, "conv1_conv", layout.stem, size=7, stride=2)
            x = self.relu(self.norm(x, "conv1_bn"))
            x = functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        else:
            x = self.conv(images, "conv1_conv", layout.stem, size=3, stride=1)
            x = self.relu(self.norm(x, "conv1_bn"))
        for stage, blocks in enumerate(layout.repeats):
            for block in range(blocks):
                name = f"conv{stage + 2}_block{block + 1}"
                stride = 2 if stage > 0 and block == 0 else 1
                x = self.block(x, name, layout.width * 2**stage, stride)
            self.stages[f"{name}_out"] = x
        if self.case.version == "v2":
            x = self.relu(self.norm(x, "post_bn"))
        return self.dense(x.mean(dim=(2, 3)), "predictions", self.case.classes)

    def block(self, x: torch.Tensor, name: str, width: int, stride: int) -> torch.Tensor:
        if self.layout.bottleneck:
            early = self.case.version == "v1"
            inner = width * self.layout.inner
            layers = (
                (inner, 1, stride if early else 1, 1),
                (inner, 3, 1 if early else stride, self.layout.groups),
                (4 * width, 1, 1, 1),
            )
        else:
            layers = ((width, 3, stride, 1), (width, 3, 1, 1))
        if self.case.version == "v2":
            return self.preactivated_block(x, name, layers, stride)
        residual = self.case.shortcut is not None
        y = x
        for i, (filters, size, step, groups) in enumerate(layers, start=1):
            last = i == len(layers)
            y = self.conv(y, f"{name}_{i}_conv", filters, size, step, groups)
            gamma_kind = "residual_gamma" if last and residual else "gamma"
            y = self.norm(y, f"{name}_{i}_bn", gamma_kind)
            if not last:
                y = self.relu(y)
        if residual:
            y = y + self.shortcut(x, name, layers[-1][0], stride)
        return self.relu(y)

    def preactivated_block(
        self, x: torch.Tensor, name: str, layers: tuple, stride: int
    ) -> torch.Tensor:
        """Fig. 1b of arXiv 1603.05027; the first block of all gets what the stem has activated."""
        y = x
        if name != "conv2_block1":
            y = self.relu(self.norm(x, f"{name}_preact_bn"))
        identity = self.case.shortcut != "C" and stride == 1 and x.shape[1] == layers[-1][0]
        path = x if identity else self.shortcut(y, name, layers[-1][0], stride)
        for i, (filters, size, step, groups) in enumerate(layers, start=1):
            y = self.conv(y, f"{name}_{i}_conv", filters, size, step, groups)
            if i < len(layers):
                kind = "residual_gamma" if i == len(layers) - 1 else "gamma"
                y = self.relu(self.norm(y, f"{name}_{i}_bn", kind))
        return path + y

    def shortcut(self, x: torch.Tensor, name: str, filters: int, stride: int) -> torch.Tensor:
        same = stride == 1 and x.shape[1] == filters
        option = self.case.shortcut
        if option == "C" or (option == "B" and not same):
            x = self.conv(x, f"{name}_0_conv", filters, 1, stride)
            return x if self.case.version == "v2" else self.norm(x, f"{name}_0_bn")
        x = x[:, :, ::stride, ::stride]
        zeros = x.new_zeros(x.shape[0], filters - x.shape[1], *x.shape[2:])
        return torch.cat([x, zeros], dim=1)

    def conv(
        self, x: torch.Tensor, name: str, filters: int, size: int, stride: int, groups: int = 1
    ) -> torch.Tensor:
        kernel = self.draw(name, "kernel", (size, size, x.shape[1] // groups, filters))
        kernel, padding = kernel.permute(3, 2, 0, 1), (size - 1) // 2
        return functional.conv2d(x, kernel, stride=stride, padding=padding, groups=groups)

    def norm(self, x: torch.Tensor, name: str, gamma_kind: str = "gamma") -> torch.Tensor:
        shape = (x.shape[1],)
        gamma = self.draw(name, "gamma", shape, gamma_kind)
        beta = self.draw(name, "beta", shape)
        mean = self.draw(name, "moving_mean", shape)
        variance = self.draw(name, "moving_variance", shape)
        if self.training:
            # The variance is the biased one in both places: PyTorch's own moving variance is not.
            moving_mean, moving_variance = mean, variance
            mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
            for key, moving, now in (
                ("moving_mean", moving_mean, mean),
                ("moving_variance", moving_variance, variance),
            ):
                new = cases.MOMENTUM * moving + (1 - cases.MOMENTUM) * now
                self.statistics[f"{name}/{key}"] = new.detach()
        column = (1, -1, 1, 1)
        x = (x - mean.view(column)) / torch.sqrt(variance + EPSILON).view(column)
        return x * gamma.view(column) + beta.view(column)

    def relu(self, x: torch.Tensor) -> torch.Tensor:
        self.margin = min(self.margin, x.detach().abs().min().item())
        return functional.relu(x)

    def dense(self, x: torch.Tensor, name: str, units: int) -> torch.Tensor:
        kernel = self.draw(name, "kernel", (x.shape[1], units))
        return x @ kernel + self.draw(name, "bias", (units,))

    def draw(
        self, layer: str, variable: str, shape: tuple[int, ...], kind: str | None = None
    ) -> torch.Tensor:
        key = f"{layer}/{variable}"
        value = torch.from_numpy(weights.draw(key, shape, kind or variable)).double()
        if self.training and not variable.startswith("moving"):
            self.parameters[key] = value.requires_grad_()
        return value


def infer(case: cases.Case) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns logits and summaries of the stages [stages, figures], and the stages' last layers."""
    if case.peer:
        from . import peers  # torchvision cannot be imported where TensorFlow has been

        network = peers.Peer(case)
    else:
        network = Network(case)
    with torch.no_grad():
        logits = network(drawn_images(case))
    stages = [cases.summarize(x.permute(0, 2, 3, 1).numpy()) for x in network.stages.values()]
    results = {"logits": logits.numpy(), "stages": np.stack(stages)}
    return {key: value.astype("float32") for key, value in results.items()}, list(network.stages)


def train(name: str) -> tuple[dict[str, np.ndarray], float]:
    """Returns logits, loss, some gradients and all moving statistics of a case, and the margin."""
    case = cases.TRAINING[name]
    network = Network(case, training=True)
    logits = network(drawn_images(case))
    labels = torch.from_numpy(weights.draw_labels(case.images[0], case.classes)).long()
    loss = functional.cross_entropy(logits, labels)
    loss.backward()
    results = {"logits": logits.detach(), "loss": loss.detach()}
    results |= {f"gradient/{key}": network.parameters[key].grad for key in cases.GRADIENTS[name]}
    results |= network.statistics
    arrays = {key: value.numpy().astype("float32") for key, value in results.items()}
    return arrays, network.margin


def drawn_images(case: cases.Case) -> torch.Tensor:
    images = weights.draw_images(case.images, case.batch)
    return torch.from_numpy(images).double().permute(0, 3, 1, 2)


def main() -> None:
    torch.set_num_threads(1)
    described = cases.INFERENCE | cases.TRAINING
    about = {
        "seed": weights.SEED,
        "intervals": weights.INTERVALS,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cases": {name: dataclasses.asdict(case) for name, case in described.items()},
        "stages": {},
        "margins": {},
    }
    arrays = {"probe": weights.draw("probe/kernel", (3, 4), "kernel")}
    for name, case in described.items():
        print(name, flush=True)
        if name in cases.TRAINING:
            results, about["margins"][name] = train(name)
        else:
            results, about["stages"][name] = infer(case)
        arrays |= {f"{name}/{key}": value for key, value in results.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)
    temporary = cases.STORED.with_suffix(".tmp")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, cases.STORED)
    print(f"{cases.STORED.name}: {cases.STORED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
