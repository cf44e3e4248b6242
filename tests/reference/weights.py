"""Weights and inputs that two frameworks can draw alike, from the names of the layers.

Every array depends on `SEED` and on its own name only, never on the order in which arrays are
drawn, so a Keras model and a PyTorch function that use the same layer names get the same numbers.
Uniform numbers of `RandomState` are used because that stream is frozen for all time and, unlike a
normal one, needs no function of the platform's mathematics library.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection

import numpy as np

SEED = 1512

# The interval of each kind. Statistics are far enough from 0 and 1 that an implementation that
# ignored one of them would be found out. The last scale of a residual branch is small because
# nothing renormalizes the sum at inference: with 1.0 a net of 50 blocks would reach 1e12.
INTERVALS = {
    "gamma": (0.75, 1.25),
    "residual_gamma": (0.2, 0.3),
    "beta": (-0.3, 0.3),
    "moving_mean": (-0.3, 0.3),
    "moving_variance": (0.7, 1.3),
    "bias": (-0.3, 0.3),
}
KINDS = ("kernel", *INTERVALS)


def draw(name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Draws the array that belongs to a name.

    Args:
        name: "<keras layer name>/<variable name>", for instance "conv1_conv/kernel".
        shape: In Keras's layout: (height, width, in, out) for a convolution's kernel,
            (in, out) for a dense one.
        kind: One of `KINDS`. A kernel, dense or convolution, is uniform with He's variance,
            2 / fan_in.

    Returns:
        A float32 array of that shape.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind == "kernel":
        high = np.sqrt(6.0 / np.prod(shape[:-1]))
        low = -high
    elif kind in INTERVALS:
        low, high = INTERVALS[kind]
    else:
        raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r} for {name!r}")
    return _uniform(name, shape, low, high)


def draw_images(shape: tuple[int, int, int, int], number: int = 0) -> np.ndarray:
    """Draws standardized images: float32 [batch, height, width, channels], mean 0, variance 1.

    `number` says which batch of that shape.
    """
    return _uniform(f"images/{number}", shape, -np.sqrt(3.0), np.sqrt(3.0))


def draw_labels(count: int, classes: int) -> np.ndarray:
    """Draws class numbers: int32 [count] in [0, classes)."""
    return _uniform("labels", (count,), 0, classes).astype("int32")


def fill_keras(model) -> None:
    """Assigns the drawn weights to a Keras model, by the names of its layers and variables.

    Raises:
        ValueError: If the model has a variable that is not one of the kinds drawn here.
    """
    names = {name for layer in model.layers for name in _names_of_blocks(layer)}
    stacks = {}
    for key, (variable, index) in named_variables(model).items():
        layer, kind = key.split("/")
        if kind == "gamma" and ends_residual_branch(layer, names):
            kind = "residual_gamma"
        if index is None:
            variable.assign(draw(key, tuple(variable.shape), kind))
        else:
            slices = stacks.setdefault(variable.path, (variable, {}))[1]
            slices[index] = draw(key, tuple(variable.shape[1:]), kind)
    for variable, slices in stacks.values():
        variable.assign(np.stack([slices[index] for index in range(len(slices))]))


def named_variables(model) -> dict:
    """Maps "<layer>/<variable>" to (variable, None), in a stack of blocks to (variable, slice)."""
    found = {}
    for layer in model.layers:
        if not hasattr(layer, "sliced_weights"):
            found |= {f"{layer.name}/{v.name}": (v, None) for v in layer.weights}
            continue
        for owner, name, variable in layer.sliced_weights():
            for index in range(layer.repeats):
                found[f"{_name_of_block(owner, index)}/{name}"] = (variable, index)
    return found


def _name_of_block(name, index):
    # A stack's pattern is named as its first block, the second of its stage.
    return name.replace("block2", f"block{index + 2}", 1)


def _names_of_blocks(layer):
    if not hasattr(layer, "sliced_weights"):
        return [layer.name]
    pattern = [inner.name for inner in layer.block.layers]
    return [_name_of_block(name, i) for name in pattern for i in range(layer.repeats)]


def ends_residual_branch(name: str, names: Collection[str]) -> bool:
    """Returns whether a layer is the last normalization of a residual branch; plain nets have none.

    The argument `names` has the names of all layers of the model.
    """
    name, names = name.replace("_gn", "_bn"), {other.replace("_gn", "_bn") for other in names}
    block, _, rest = name.rpartition("_block")
    number, _, part = rest.partition("_")
    block = f"{block}_block{number}"
    # With pre-activation the last convolution has none behind it.
    for last in (3, 2):
        if f"{block}_{last}_conv" in names and f"{block}_{last}_bn" not in names:
            return part == f"{last - 1}_bn"
    last = "3_bn" if f"{block}_3_bn" in names else "2_bn"
    return part == last and f"{block}_add" in names


def _uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    generator = np.random.RandomState([SEED, zlib.crc32(name.encode())])
    return (low + (high - low) * generator.random_sample(shape)).astype("float32")
