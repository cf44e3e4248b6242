"""Runs PyTorch's models in a subprocess, since they cannot share a process with TensorFlow.

    python torch_models.py write FOLDER NAME...   random networks: their weights, inputs and outputs
    python torch_models.py read FOLDER NAME...    weights that came back: the outputs with them

A name is that of torchvision, such as "resnet18", or of timm with "timm/" in front.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import safetensors.torch
import timm
import torch
import torchvision

INPUT = (2, 3, 64, 64)


def build(name: str) -> torch.nn.Module:
    if name.startswith("timm/"):
        return timm.create_model(name.removeprefix("timm/")).eval()
    return torchvision.models.get_model(name).eval()


def randomize(model: torch.nn.Module) -> None:
    """Draws weights that show when one is ignored, and keeps deep sums small."""
    generator = torch.Generator().manual_seed(0)

    def draw(tensor, low, high):
        tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            end = name.endswith("bn3") or (name.endswith("bn2") and "layer" in name)
            draw(module.weight, *((0.2, 0.4) if end else (0.7, 1.3)))
            module.weight[::3] *= -1  # which a maximum does not commute with
            draw(module.bias, -0.3, 0.3)
            draw(module.running_mean, -0.3, 0.3)
            draw(module.running_var, 0.5, 1.5)
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            fan_in = module.weight[0].numel()
            draw(module.weight, -((6 / fan_in) ** 0.5), (6 / fan_in) ** 0.5)
            if module.bias is not None:
                draw(module.bias, -0.3, 0.3)


def file_of(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / name.replace("/", "_")


@torch.no_grad()
def write(folder: pathlib.Path, name: str) -> None:
    model = build(name)
    randomize(model)
    images = torch.randn(INPUT, generator=torch.Generator().manual_seed(1))
    path = file_of(folder, name)
    safetensors.torch.save_file(model.state_dict(), f"{path}.safetensors", {"format": "pt"})
    torch.save(model.state_dict(), f"{path}.pth")
    wrapped = {"state_dict": torch.nn.DataParallel(model).state_dict(), "epoch": 3}
    torch.save(wrapped, f"{path}.legacy.pth", _use_new_zipfile_serialization=False)
    np.savez(f"{path}.npz", images=images.numpy(), logits=model(images).numpy())


@torch.no_grad()
def read(folder: pathlib.Path, name: str) -> None:
    path = file_of(folder, name)
    original = torch.load(f"{path}.pth", weights_only=True)
    states = [
        safetensors.torch.load_file(f"{path}.back.safetensors"),
        torch.load(f"{path}.back.pth", weights_only=True),
        torch.load(f"{path}.back.pth", weights_only=True, mmap=True),
    ]
    for state in states:
        assert sorted(state) == sorted(original), set(state) ^ set(original)
        for key, value in original.items():
            assert state[key].dtype == value.dtype and torch.equal(state[key], value), key
    model = build(name)
    model.load_state_dict(states[1], strict=True)
    with np.load(f"{path}.npz") as stored:
        images, logits = torch.from_numpy(stored["images"]), stored["logits"]
    assert np.array_equal(model(images).numpy(), logits)


if __name__ == "__main__":
    action, folder, *names = sys.argv[1:]
    for name in names:
        {"write": write, "read": read}[action](pathlib.Path(folder), name)
