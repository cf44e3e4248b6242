"""Files that an earlier version wrote still give what they gave then.

Outputs are compared to 1e-5, not bit for bit: kernels, and with them the order of sums, differ
between processors.
"""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest

from keras_resnet.evaluation import load_model
from keras_resnet.export import HubLayer, load_exported
from keras_resnet.weights import layer_weights, load_weights
from tests.snapshot import describe, nets


@pytest.fixture(scope="module")
def expected():
    with np.load(nets.STORED / "expected.npz", allow_pickle=False) as file:
        return dict(file)


def assert_gives(model, images, outputs, atol=1e-5):
    np.testing.assert_allclose(nets.outputs(model, images), outputs, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("load", [load_model, keras.models.load_model], ids=["ours", "keras"])
@pytest.mark.parametrize("name", nets.MODELS)
def test_keras_file(name, load, expected):
    model = load(nets.STORED / f"{name}.keras")
    assert_gives(model, nets.images_for(model, expected), expected[name])


@pytest.mark.parametrize("name", nets.MODELS)
def test_builders_still_make_the_stored_network(name):
    """The same layers and weights, by name; a stack's blocks among them."""
    stored, built = load_model(nets.STORED / f"{name}.keras"), nets.MODELS[name]()
    assert built.name == stored.name
    assert [layer.name for layer in built.layers[1:]] == [x.name for x in stored.layers[1:]]
    shapes = [
        {layer: [array.shape for array in arrays] for layer, arrays in layer_weights(net).items()}
        for net in (built, stored)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("file", "make"), [("model.keras", nets.resnet8), ("model.weights.h5", nets.narrow)]
)
def test_keras_finds_weights_under_the_former_name_of_a_class(file, make, expected):
    model = make()
    model.load_weights(nets.STORED / file)
    assert_gives(model, expected["grey"], expected["weights" if "h5" in file else "model"])


def test_a_file_of_an_earlier_version_becomes_one_of_this_version(expected, tmp_path):
    """Layers of the caller's are numbered with these now, so that Keras refuses the old weights."""
    path = nets.STORED / "tuned.keras"
    with pytest.raises(ValueError, match="'head_bn' expected 4 variables"):
        nets.tuned().load_weights(path)
    by_name = nets.tuned()
    load_weights(by_name, path)
    assert_gives(by_name, expected["grey"], expected["tuned"])
    keras.models.load_model(path).save_weights(tmp_path / "again.weights.h5")
    again = nets.tuned()
    again.load_weights(tmp_path / "again.weights.h5")
    assert_gives(again, expected["grey"], expected["tuned"])


def test_weights_of_a_stack_fit_the_unrolled_net(expected):
    net = nets.narrow(*nets.UNROLLED)
    load_weights(net, nets.STORED / "stacked.keras")
    assert_gives(net, expected["grey"], expected["stacked"])


@pytest.mark.parametrize("file", ["model.weights.h5", "model.safetensors"])
def test_weights_file(file, expected):
    path = nets.STORED / file
    loaded = nets.narrow()
    load_weights(loaded, path)
    assert_gives(loaded, expected["grey"], expected["weights"])
    assert_gives(nets.narrow(weights=path), expected["grey"], expected["weights"])


def test_weights_file_read_by_keras(expected):
    model = nets.narrow()
    model.load_weights(nets.STORED / "model.weights.h5")
    assert_gives(model, expected["grey"], expected["weights"])


def test_weights_of_a_whole_model(expected):
    built = nets.resnet8(weights=nets.STORED / "model.keras")
    assert_gives(built, expected["grey"], expected["model"])


def test_hub_module(expected):
    folder = nets.STORED / "hub_module"
    assert_gives(HubLayer(folder), (expected["grey"] + 1) / 2, expected["hub_module"])
    opened = load_exported(folder)
    assert (opened.labels, opened.output) == (nets.LABELS, "logits")
    assert opened.image_shape == (8, 8, 1)
    np.testing.assert_allclose(
        opened((expected["grey"] + 1) * 127.5), expected["hub_module"], rtol=1e-5, atol=1e-5
    )


@pytest.fixture
def resume(tmp_path, expected):
    """Trains to a step from a copy of the stored checkpoint: a run writes beside it."""
    folder = shutil.copytree(nets.STORED / "checkpoint", tmp_path / "checkpoint")
    data = nets.dataset(expected["train_images"], expected["train_labels"])
    return lambda steps, *callbacks: nets.train(data, steps, folder, callbacks)


def test_checkpoint_is_restored(resume, expected):
    trainer = resume(nets.SAVED_STEP)
    assert trainer.step == nets.SAVED_STEP
    with np.load(nets.STORED / "checkpoint" / "step-000000003.npz", allow_pickle=False) as file:
        arrays = [file[name] for name in sorted(file.files) if name.startswith("model/")]
    for variable, array in zip(trainer.model.variables, arrays, strict=True):
        np.testing.assert_array_equal(variable, array)
    assert_gives(trainer.model, expected["grey"], expected["checkpoint"])


def test_checkpoint_goes_on(resume, expected):
    """At the fourth of the first epoch's steps, and to where the run came that wrote it.

    Two steps of training add their own rounding to the outputs'; without the momentum, or with
    other batches, these would differ by a hundredth and more.
    """
    batches = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append(batch)
    )
    trainer = resume(nets.LAST_STEP, note)
    assert batches == [3, 0] and trainer.step == nets.LAST_STEP
    assert_gives(trainer.model, expected["grey"], expected["continued"], atol=1e-4)


@pytest.mark.parametrize("name", nets.REGISTERED)
def test_objects_are_found_by_registered_name(name):
    """As in files of compiled models, which also name the module that the class was in then."""
    stored, current = describe.read(nets.STORED / "objects.json")[name], nets.REGISTERED[name]()
    assert stored["registered_name"] == f"keras_resnet>{name}"
    found = keras.saving.deserialize_keras_object(stored)
    assert type(found) is type(current)
    # Keras numbers the names of optimizers.
    configs = [{**thing.get_config(), "name": None} for thing in (found, current)]
    assert configs[0] == configs[1]


def test_hub_layers_registered_name():
    """A file that names one holds its module's path, which a stored file cannot."""
    assert keras.saving.get_registered_name(HubLayer) == "keras_resnet>HubLayer"
