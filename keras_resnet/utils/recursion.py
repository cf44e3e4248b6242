"""How deep a functional model can be: Keras recurses once for each layer in sequence."""

from __future__ import annotations

import sys

from keras_resnet.utils import checks

# Of Python's limit of recursion, 1000 by default, what Keras and its caller need for themselves.
FRAMES = 250
# Networks with more layers in sequence than this stack their blocks, so that a caller may be deep.
SERIAL_LAYERS = 600


def stacks_blocks(stack_blocks: bool | None, recompute: bool, serial_layers: int) -> bool:
    """Decides whether a network stacks its blocks, by wish or where depth leaves no choice.

    Args:
        stack_blocks: The wish, or None.
        recompute: Whether it is to compute activations again, which stacks do.
        serial_layers: Layers in sequence.

    Raises:
        ValueError: If the wish is not one, or cannot be met.
    """
    checks.one_of("stack_blocks", stack_blocks, (None, True, False))
    checks.boolean("recompute", recompute)
    if stack_blocks is None:
        return recompute or serial_layers > SERIAL_LAYERS
    if recompute and not stack_blocks:
        raise ValueError(
            "`recompute` works on stacked blocks; leave out `stack_blocks` or set it to True. "
            "Received: recompute=True with stack_blocks=False"
        )
    if not stack_blocks and serial_layers > sys.getrecursionlimit() - FRAMES:
        raise ValueError(
            f"`stack_blocks` must be True or None for a net of {serial_layers} layers in sequence, "
            "which Keras cannot build unrolled within Python's recursion limit of "
            f"{sys.getrecursionlimit()}. Received: stack_blocks=False"
        )
    return stack_blocks
