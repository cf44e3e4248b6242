"""Last maps of the stages of a network, found by the names of the layers."""

from __future__ import annotations

import keras

from keras_resnet.naming import POST, find_stage, map_name


def stage_ends(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns the last map of every stage by name, C2 to C5; nothing where there are no stages.

    It is the input of the next stage, and for the last one that of the pooling: with pre-activation
    (version "v2", DenseNet) the sum or concatenation that ends a stage, normalized and activated in
    the last stage only.
    """
    ends, name = {}, None
    # Layers are in order of computation.
    for layer in model.layers:
        stage = find_stage(layer.name)
        if stage is not None and stage >= 0:
            name = map_name(stage)
            ends[name] = layer.output
        elif name and layer.name.startswith(f"{POST}_"):
            ends[name] = layer.output
    return ends
