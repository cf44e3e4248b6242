"""Depth of functional models, limited since Keras recurses once for each layer in sequence."""

from __future__ import annotations

import sys

from keras_resnet.utils import checks

# Frames of Python's recursion limit, 1000 by default, that Keras and its caller need.
_FRAMES = 250
# Networks with more layers in sequence stack their blocks, so that the caller may be deep.
_SERIAL_LAYERS = 600


def stacks_blocks(stack_blocks: bool | None, recompute: bool, serial_layers: int) -> bool:
    """Returns whether a network stacks its blocks, by choice or because of its depth.

    Raises a ValueError if `stack_blocks`, the choice or None, contradicts `recompute`, which takes
    stacked blocks, or the number of layers in sequence is too large for unrolled ones.
    """
    checks.one_of("stack_blocks", stack_blocks, (None, True, False))
    checks.boolean("recompute", recompute)
    if stack_blocks is None:
        return recompute or serial_layers > _SERIAL_LAYERS
    if recompute and not stack_blocks:
        raise ValueError(
            "`recompute` works on stacked blocks; leave out `stack_blocks` or set it to True. "
            "Received: recompute=True with stack_blocks=False"
        )
    if not stack_blocks and serial_layers > sys.getrecursionlimit() - _FRAMES:
        raise ValueError(
            f"`stack_blocks` must be True or None for a network of {serial_layers} layers in "
            "sequence, which Keras cannot build unrolled within Python's recursion limit of "
            f"{sys.getrecursionlimit()}. Received: stack_blocks=False"
        )
    return stack_blocks
