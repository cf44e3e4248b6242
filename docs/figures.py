"""Draws the figures of the documents that are of layers: `python docs/figures.py`."""

from __future__ import annotations

from pathlib import Path

import keras_resnet
from keras_resnet.analysis import plots

FOLDER = Path(__file__).resolve().parent / "figures"


def draw(folder: Path = FOLDER) -> None:
    """Writes shortcuts.svg and versions.svg, and a PNG beside each."""
    stage, first = 1, 0  # conv3_block1, where the shape changes
    small = {"input_shape": (32, 32, 3), "classes": 10}
    options = {"option A": "A", "options B and C": "B", "plain": None}
    shortcuts = {
        text: (keras_resnet.ResNet20(shortcut=option, **small), stage, first)
        for text, option in options.items()
    }
    for text, option in {"A and B, same shape": "B", "C, same shape": "C"}.items():
        shortcuts[text] = (keras_resnet.ResNet20(shortcut=option, **small), stage, first + 1)
    plots.block_diagrams(
        shortcuts, folder / "shortcuts.png", title="Blocks of ResNet-20 in its second stage"
    )
    large = {"weights": None, "input_shape": (64, 64, 3)}
    versions = {
        "v1": keras_resnet.ResNet50(**large),
        "v1.5": keras_resnet.ResNet50(version="v1.5", **large),
        "v2": keras_resnet.ResNet50(version="v2", **large),
        "D": keras_resnet.ResNet50D(**large),
    }
    plots.block_diagrams(
        {text: (model, stage, first) for text, model in versions.items()},
        folder / "versions.png",
        title="First bottleneck of the second stage of ResNet-50",
    )


if __name__ == "__main__":
    draw()
