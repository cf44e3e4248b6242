"""Trained models from files, from the Hugging Face hub, and by the names of published weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras

from keras_resnet.models.builders import GENERAL_BUILDERS, build
from keras_resnet.models.zoo import list_models
from keras_resnet.network import Network, class_count, describe, preprocessing_of, remembered
from keras_resnet.utils import checks, private
from keras_resnet.weights import PRETRAINED, saving
from keras_resnet.weights.beside import labels_beside, local_file, preprocessing_beside
from keras_resnet.weights.files import read_hub
from keras_resnet.weights.hugging_face import HubNetwork, find_network, is_address


def load_model(path: str | Path) -> keras.Model:
    """Reads a `.keras` file, a network of the Hugging Face hub, or one with published weights.

    An address of the hub, "hf://owner/name", gives the ResNet or DenseNet of timm or transformers
    there, or the model that `experiment.push` put there, with the preprocessing and the class names
    beside it as `model.preprocessing`. "@" and a commit, branch or tag may follow. It takes
    images in [0, 255] if the repository tells how to prepare them. A config of more weights than
    its file has bytes is refused.

    The name of published weights, such as "timm/resnet50.a1_in1k" (`list_models` has them), gives
    their network with the classifier, for images in [0, 255], too; the name of a network, such as
    "ResNet50", that of its first ones.

    What a `preprocessing.json` beside a `.keras` file says is the model's `preprocessing` where it
    remembers none; it is not saved with the model. A file that holds Python code, or arrays that
    would swell, is refused, too; see `weights.load_model`.

    Raises:
        ValueError: If there is no such file, Keras cannot read it, or the repository is of a
            network that the builders do not make.
        OSError: If a file of the hub cannot be downloaded.
    """
    return load_with_file(path)[0]


def load_with_file(path: str | Path) -> tuple[keras.Model, Path | None]:
    """Returns what `load_model` does, and the local file of it, None for published weights.

    An address is looked up once, so that what lies beside the file belongs to it.
    """
    if is_name(path):
        published = PRETRAINED.get(str(path))
        network, name = (published.network, published.name) if published else (path, "imagenet")
        return build(str(network), weights=name, include_preprocessing=True), None
    if not is_address(path):
        file = local_file(path)
        model = saving.load_model(file)
        prepared = None if preprocessing_of(model) else preprocessing_beside(file)
        if prepared is not None:
            describe(model, prepared)
        return model, file
    found = find_network(str(path))
    model = _with_files_beside(found.file) if found.builder is None else _build(found)
    return model, found.file


def is_name(path: str | Path) -> bool:
    """Returns whether a path is the name of published weights or of a network, and no file."""
    name = str(path)
    named = name in PRETRAINED or name.lower() in (info.name.lower() for info in list_models())
    return named and not Path(path).exists()


def _with_files_beside(file: Path) -> keras.Model:
    """Returns a model that was pushed, which knows the preprocessing and the names beside it.

    What a network remembers itself counts more.
    """
    model = saving.load_model(file)
    config = remembered(model)
    prepared = preprocessing_of(model) or preprocessing_beside(file)
    if prepared is None:
        return model
    labels = prepared.class_names or labels_beside(file)
    outputs = tuple(map(class_count, model.output_shape[1:]))
    if labels is not None and outputs == (len(labels),):
        prepared = dataclasses.replace(prepared, class_names=labels)
    if config is None:
        describe(model, prepared)
    elif isinstance(model, Network):
        model.remember(dataclasses.replace(config, preprocessing=prepared))
    return model


def _build(found: HubNetwork) -> Network:
    """Returns a network as its config tells, with the weights of its file.

    The config may have been written by anybody: nothing of its size is made before it is compared
    with the file.
    """
    assert found.builder is not None
    saved, size = read_hub(found), found.file.stat().st_size
    try:
        blocks = sum(checks.integers("blocks", found.arguments["blocks"]))
        if blocks > len(saved.layers):
            raise ValueError(f"its config has {blocks:,} blocks, and it {len(saved.layers)} arrays")
        with private.without_values(most=size):  # A number takes a byte at least.
            builder = GENERAL_BUILDERS[found.builder]
            model = builder(weights=None, name=None, **found.arguments)
    except Exception as error:  # Whatever layers and backends raise for sizes that nothing has.
        raise ValueError(
            "`path` must be the address of a network that the builders make. "
            f"Received: {found.address!r} ({checks.first_line(error)})"
        ) from error
    saved.load_into(model)
    return model
