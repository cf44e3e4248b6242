"""Subjects of PyTorch and torchvision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks.common import (
    LEARNING_RATE,
    MOMENTUM,
    TORCH_ONNX,
    WEIGHT_DECAY,
    batch,
    classes_of,
    noise,
)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, option A where that changes its shape."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.added:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return functional.relu(y + x, inplace=True)


def cifar_resnet(depth: int) -> nn.Module:
    """Returns the network of section 4.2 of the paper."""
    layers: list[nn.Module] = [
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
    ]
    inputs = 16
    for outputs in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            layers.append(BasicBlock(inputs, outputs, outputs // inputs))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def network_of(name: str, classes: int) -> nn.Module:
    """Returns a network of torchvision, or of the paper's for CIFAR."""
    if classes == 10:
        return cifar_resnet(int(name.removeprefix("resnet")))
    import torchvision  # which the networks for CIFAR do without

    return torchvision.models.get_model(name, weights=None, num_classes=classes)


def train(
    network: str, batch_size: int, image_size: int, bfloat16: bool = False, compiled: bool = False
) -> Callable[[], object]:
    """Returns a training step, eager or compiled, in channels-last."""
    net = network_of(network, classes_of(image_size)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        net.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    arrays, labels = noise(batch_size, image_size)
    images = torch.from_numpy(arrays).permute(0, 3, 1, 2).split(batch_size)
    batches = list(zip(images, torch.from_numpy(labels).long().split(batch_size), strict=True))
    half = torch.autocast("cpu", torch.bfloat16) if bfloat16 else contextlib.nullcontext()
    call = torch.compile(net) if compiled else net
    position = 0

    def step() -> None:
        nonlocal position
        pixels, classes = batches[position % len(batches)]
        position += 1
        with half:
            loss = functional.cross_entropy(call((pixels.float() - 128) / 64), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def export_onnx(folder: str, network: str) -> None:
    """Writes a network of torchvision with random weights as an ONNX file, of any batch."""
    net = network_of(network, 1000).eval()
    torch.onnx.export(
        *(net, (torch.zeros(2, 3, 224, 224),), str(Path(folder, TORCH_ONNX))),
        input_names=["images"],
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )


def infer(network: str, batch_size: int) -> Callable[[], object]:
    """Returns a step of inference, eager and in channels-last."""
    net = network_of(network, 1000).eval().to(memory_format=torch.channels_last)
    images = batch(batch_size).transpose(0, 3, 1, 2)

    @torch.inference_mode()
    def step() -> None:
        net(torch.from_numpy(images) / 255).numpy()

    return step


def read(folder: str, batch_size: int) -> Callable[[], object]:
    """Returns a step that reads every photograph of a folder once, by a process for each core."""
    from torchvision import datasets, transforms

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(folder, transform),
        batch_size,
        shuffle=True,
        num_workers=torch.get_num_threads(),
        persistent_workers=True,
    )

    def step() -> None:
        for _ in loader:
            pass

    return step
