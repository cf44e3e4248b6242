"""Names of stages, blocks and ends of a network: the one place that makes and reads them.

`conv1` is the stem and `conv2`, `conv3`, ... are the stages, as in Table 1 of arXiv 1512.03385. A
layer of a block is called after its stage, its block and its part: conv2_block1_1_conv. Saved
weights refer to layers by these names, so they do not change.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PREPROCESSING = "preprocessing"
STEM, STEM_POOL = "conv1", "pool1"
# Normalization and activation behind the last stage of networks with pre-activation.
POST = "post"
AVERAGE_POOL, MAX_POOL = "avg_pool", "max_pool"
CLASSIFIER = "predictions"
# Layers that `keras.applications.densenet` calls otherwise, and their names there.
DENSENET_NAMES = {f"{POST}_bn": "bn", f"{POST}_relu": "relu", f"{STEM_POOL}_pool": "pool1"}
# Both names of a layer, each by the other.
OTHER_NAMES = DENSENET_NAMES | {there: here for here, there in DENSENET_NAMES.items()}

_FIRST_STAGE = 2
_STAGE = re.compile(r"(conv|pool)(\d+)_")
_IN_BLOCK = re.compile(r"conv(\d+)_block(\d+)_(\w+)")


class Place(NamedTuple):
    """Indices of a stage and a block, and a part of it: conv2_block1_1_conv is (0, 0, "1_conv")."""

    stage: int
    block: int
    part: str


def stage_name(stage: int) -> str:
    """Returns the name of a stage by its index: "conv2" for the first."""
    return f"conv{stage + _FIRST_STAGE}"


def transition_name(stage: int) -> str:
    """Returns the prefix of DenseNet's layers behind the stage of that index: "pool2"."""
    return f"pool{stage + _FIRST_STAGE}"


def map_name(stage: int) -> str:
    """Returns the name of a stage's last map: "C2" for the first, and for -1, the stem, "C1"."""
    return f"C{stage + _FIRST_STAGE}"


def block_name(stage: str, block: int) -> str:
    """Returns the name of a block by its index in the stage: "conv2_block1" for the first."""
    return f"{stage}_block{block + 1}"


def stack_name(stage: str) -> str:
    """Returns the name of the `BlockStack` that holds the equal blocks of a stage."""
    return f"{stage}_stack"


def densenet_name(layer: str) -> str | None:
    """Returns the name of a DenseNet's layer in Keras, None for a pad, which Keras only numbers."""
    pads = (f"{STEM}_pad", f"{STEM_POOL}_pad")
    return None if layer in pads else DENSENET_NAMES.get(layer, layer)


def is_post(layer: str) -> bool:
    """Returns whether a layer stands behind the last stage of a network with pre-activation."""
    return layer.startswith(f"{POST}_") or OTHER_NAMES.get(layer, "").startswith(f"{POST}_")


def find_place(layer: str) -> Place | None:
    """Returns where a layer stands in its block, or None if it is in none."""
    found = _IN_BLOCK.fullmatch(layer)
    return Place(int(found[1]) - _FIRST_STAGE, int(found[2]) - 1, found[3]) if found else None


def find_stage(layer: str, *, transitions: bool = False) -> int | None:
    """Returns the index of the stage that a layer is in, -1 for the stem, or None if in neither.

    Args:
        layer: Name of the layer.
        transitions: Whether the pool of the stem and DenseNet's transitions count, too.
    """
    found = _STAGE.match(layer)
    return int(found[2]) - _FIRST_STAGE if found and (transitions or found[1] == "conv") else None


def unrolled_name(pattern: str, i: int) -> str:
    """Returns the name that a layer of a stack's pattern has in block `i` of the unrolled network.

    The pattern is named as the first block: conv2_block2_1_conv, and in block 1
    conv2_block3_1_conv.

    Raises:
        ValueError: If the name has no number of a block.
    """
    name, found = re.subn(
        r"block(\d+)", lambda match: f"block{int(match[1]) + i}", pattern, count=1
    )
    if not found:
        raise ValueError(
            "`pattern` must be the name of a layer of a block with its number, such as "
            f"conv2_block2_1_conv. Received: pattern={pattern!r}"
        )
    return name
