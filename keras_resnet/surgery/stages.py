"""The stages of a network: their last maps, found by the names of the layers."""

from __future__ import annotations

import keras

from keras_resnet.naming import POST, find_stage, map_name


def stage_ends(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns the last map of every stage by name, C2 to C5; nothing where there are no stages.

    That is what the next stage reads, and of the last one what the classifier reads: with
    pre-activation (version "v2", DenseNet) the sum or concatenation that ends a stage, and for the
    last stage what normalization and activation behind it make of that.
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
