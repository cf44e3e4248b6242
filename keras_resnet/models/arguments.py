"""Checks of the arguments that every builder has: images, stages to give, top, stacked blocks."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras

from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils import checks

# Frames of Python's recursion limit, 1000 by default, that Keras and its caller need.
_FRAMES = 250
# Networks with more layers in sequence stack their blocks, so that the caller may be deep.
_SERIAL_LAYERS = 600


def stacks_blocks(
    stack_blocks: bool | None,
    recompute: bool,
    serial_layers: int,
    filters: Mapping[str, int] | None = None,
) -> bool:
    """Returns whether a network stacks its blocks, by choice or because of its depth.

    Keras recurses once for each layer in sequence when it builds a functional model.

    Raises:
        ValueError: If the choice, `stack_blocks`, contradicts `recompute`, the depth, or `filters`,
            by which blocks differ.
    """
    checks.one_of("stack_blocks", stack_blocks, (None, True, False))
    checks.boolean("recompute", recompute)
    if filters is not None and not stack_blocks:
        stack_blocks = False
    if filters is not None and (stack_blocks or recompute):
        raise ValueError(
            "`filters` goes with blocks that are not stacked; leave out `stack_blocks` and "
            f"`recompute`. Received: {stack_blocks=}, {recompute=} with filters"
        )
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


def check_top(arguments: Mapping[str, Any], default_classes: int) -> dict[str, Any]:
    """Returns those of a builder's arguments that decide the end of the network.

    As in `keras.applications`, `pooling` means nothing with the top, and `classes` nothing without.

    Raises:
        ValueError: If an argument is wrong.
    """
    include_top, pooling, classes, activation = (
        arguments[name] for name in ("include_top", "pooling", "classes", "classifier_activation")
    )
    checks.one_of("pooling", pooling, (None, "avg", "max"))
    include_top = bool(checks.one_of("include_top", include_top, (True, False, 0, 1)))
    checks.known("classifier_activation", activation, keras.activations.get)
    classes = checks.integer("classes", default_classes if classes is None else classes)
    return {
        "include_top": include_top,
        "pooling": None if include_top else pooling,
        "classes": classes if include_top else None,
        "classifier_activation": activation,
    }


def check_classifier_dropout(rate, include_top: bool) -> float:
    """Returns the rate of dropout in front of the classifier.

    Raises:
        ValueError: If it is not in [0, 1), or there is no classifier.
    """
    rate = checks.fraction("classifier_dropout", rate)
    if rate and not include_top:
        raise ValueError(
            "`classifier_dropout` goes with include_top=True; leave it out where there is no "
            f"classifier. Received: classifier_dropout={rate} with include_top=False"
        )
    return rate


def check_features(
    features, include_top: bool, pooling: str | None, maps: Collection[str]
) -> tuple[str, ...]:
    """Returns the names of the maps that a network is to give; none for one output.

    Raises:
        ValueError: If they are not among `maps`, or do not go with the rest.
    """
    if features is None:
        return ()
    if include_top or pooling is not None:
        raise ValueError(
            "`features` goes with include_top=False and pooling=None, since maps are what they "
            f"name. Received: features={features!r} with include_top={include_top}, "
            f"pooling={pooling!r}"
        )
    return some_of("features", features, maps)


def some_of(argument: str, names, maps: Collection[str]) -> tuple[str, ...]:
    """Returns names of maps if they are some of those there are, in a sequence.

    A number stands for the map that has it in its name: 2 for "C2".
    """
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise ValueError(
            f"`{argument}` must be some of {', '.join(map(repr, maps))}, or their numbers, in a "
            f"list. Received: {argument}={names!r}"
        )
    numbered = {int(name[1:]): name for name in maps}
    names = [numbered.get(name, name) if checks.is_whole(name) else name for name in names]
    return tuple(checks.one_of(argument, name, tuple(maps)) for name in names)


def check_preprocessing(include_preprocessing, saved, channels) -> Preprocessing | None:
    """Returns what the weights, if `saved` is not None, want done to an image; None if unknown.

    Those for RGB are for images of so many `channels` here.
    """
    if isinstance(include_preprocessing, Preprocessing):
        return include_preprocessing
    include = checks.boolean("include_preprocessing", include_preprocessing)
    known = None if saved is None else saved.prepared_for(channels)
    if known is not None:  # What it tells of the classes comes with the classifier.
        known = dataclasses.replace(known, class_names=None, threshold=None)
    return known or (Preprocessing() if include else None)


def open_shape(images: keras.KerasTensor, data_format: str | None) -> tuple[int | None, ...]:
    """Returns the shape of one image, or map, of any size with the channels of `images`."""
    if data_format == "channels_first":
        return (images.shape[1], None, None)
    return (None, None, images.shape[-1])


def check_input(input_tensor, input_shape, default_size, minimum_size, data_format):
    """Returns the model's inputs, and the tensor of floating point to build on.

    Images are RGB squares of `default_size`, None for any, where neither tensor nor shape is given.

    Raises:
        ValueError: If the shape is malformed or too small, if tensor and shape disagree, or if
            the backend cannot compute in `data_format`.
    """
    if data_format == "channels_first" and not _runs_channels_first():
        raise ValueError(
            "`data_format` must be 'channels_last' here: TensorFlow convolves channels-first "
            "images on GPUs only, and this machine shows none. Received: data_format="
            "'channels_first'"
        )
    if input_tensor is not None and not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            "`input_tensor` must be a Keras tensor, such as keras.Input((224, 224, 3)). "
            f"Received: input_tensor of type {type(input_tensor).__name__}"
        )
    if input_shape is not None:
        name, shape = "input_shape", input_shape
    elif input_tensor is not None:
        name, shape = "input_tensor", tuple(input_tensor.shape)[1:]
    else:
        name, shape = "input_shape", (default_size, default_size, 3)
        if data_format == "channels_first":
            shape = (3, default_size, default_size)
    shape = _checked_shape(name, shape, minimum_size, data_format)
    if input_tensor is None:
        inputs = keras.Input(shape)
        return inputs, inputs
    if tuple(input_tensor.shape)[1:] != shape:
        raise ValueError(
            f"`input_shape` must be that of `input_tensor`, {tuple(input_tensor.shape)[1:]}, or be "
            f"left out. Received: input_shape={shape}"
        )
    sources = keras.utils.get_source_inputs(input_tensor)
    if "float" not in str(input_tensor.dtype):
        input_tensor = keras.ops.cast(input_tensor, keras.config.floatx())
    return sources[0] if len(sources) == 1 else sources, input_tensor


def _checked_shape(name, shape, minimum_size, data_format):
    """Returns the shape of one image as ints, None for sides of any size."""
    first = data_format == "channels_first"
    channels, sides = None, ()
    if isinstance(shape, (tuple, list)) and len(shape) == 3:
        channels, sides = (shape[0], shape[1:]) if first else (shape[-1], shape[:-1])
    wanted = [(channels, 1), *((side, minimum_size) for side in sides if side is not None)]
    if not all(checks.is_whole(number) and number >= least for number, least in wanted):
        layout = "(channels, height, width)" if first else "(height, width, channels)"
        raise ValueError(
            f"`{name}` must be {layout} of one image, without the batch: at least 1 channel, and "
            f"sides of at least {minimum_size} pixels, which leave one on the last map, or None. "
            f"Received: {name}={shape!r}"
        )
    return tuple(side if side is None else int(side) for side in shape)


@functools.cache
def _runs_channels_first() -> bool:
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
