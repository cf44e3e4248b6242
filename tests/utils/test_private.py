"""Private names of Keras, TensorFlow and keras-tuner, with the versions they were seen in."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import pickle
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.utils import private

SEEN = {"keras": "3.15.1", "tensorflow": "2.21.0", "keras-tuner": "1.4.8"}


@contextlib.contextmanager
def seen(name: str, library: str):
    """Fails with a private name, the version it was seen in, and the one that is installed."""
    try:
        yield
    except Exception as error:
        installed = importlib.metadata.version(library)
        pytest.fail(f"{name}, seen in {library} {SEEN[library]}, failed in {installed}: {error!r}")


@pytest.fixture
def model():
    images = keras.Input((4,), name="images")
    x = keras.layers.BatchNormalization(name="norm")(images)
    return keras.Model(images, keras.layers.Dense(2, name="dense")(x))


class FormerNorm(keras.layers.BatchNormalization):
    """A layer that had another class when files were written."""


def test_group_of(model, tmp_path):
    """By the former name of a class, with the number; first by the name of the layer."""
    inputs = keras.Input((4,))
    x = FormerNorm(name="b")(FormerNorm(name="a")(inputs))
    old = keras.Model(inputs, keras.layers.BatchNormalization(name="c")(x))
    old.save_weights(tmp_path / "old.weights.h5")
    names, found = ("former_norm", "batch_normalization"), {}

    class Noting(keras.layers.BatchNormalization):
        def load_own_variables(self, store):
            found[self.name] = private.group_of(self, store, names)._h5_entry_group.name
            super().load_own_variables(store)

    Noting.__name__ = "BatchNormalization"
    with seen("H5IOStore._h5_entry_path, _h5_entry_group", "keras"):
        for layers in (["a", "b"], ["c"]):
            x = inputs
            for layer in layers:
                x = Noting(name=layer)(x)
            keras.Model(inputs, x).load_weights(tmp_path / "old.weights.h5")
        assert found["a"] == "/layers/former_norm/vars"
        assert found["b"] == "/layers/former_norm_1/vars"
        assert found["c"] == "/layers/batch_normalization/vars"
        # What is no H5 file is passed on.
        assert private.group_of(model.layers[1], {}, names) == {}


@pytest.fixture
def optimizer(model):
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    optimizer = keras.optimizers.SGD(schedule, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    return optimizer


def test_layer_of(model):
    with seen("KerasTensor._keras_history", "keras"):
        assert private.layer_of(model.output) is model.get_layer("dense")


def test_function_of(model):
    with seen("Sequential._functional", "keras"):
        assert private.function_of(model) is model
        sequential = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        assert isinstance(private.function_of(sequential), keras.Function)
        assert private.function_of(keras.layers.Dense(2)) is None


def test_run_through(model):
    with seen("Function._run_through_graph", "keras"):
        names = []

        def call(layer, *args, **kwargs):
            names.append(layer.name)
            return layer.compute_output_spec(*args, **kwargs)

        output = private.run_through(model, keras.KerasTensor((3, 4)), call)
        assert names == ["norm", "dense"]
        assert output.shape == (3, 2)


def test_nested_layers(model):
    with seen("Layer._flatten_layers", "keras"):
        outer = keras.Sequential([keras.Input((5, 4)), keras.layers.TimeDistributed(model)])
        names = {layer.name for layer in private.nested_layers(outer)}
        assert {outer.name, "norm", "dense"} <= names


def test_fixed_variables(model):
    with seen("Layer._non_trainable_variables", "keras"):
        model.trainable = False
        names = [variable.name for variable in private.fixed_variables(model)]
        assert names == ["moving_mean", "moving_variance"]


def test_compute_output_spec():
    with seen("backend.compute_output_spec", "keras"):
        spec = private.compute_output_spec(keras.ops.matmul, *[keras.KerasTensor((2, 2))] * 2)
        assert isinstance(spec, keras.KerasTensor)


def test_application_shape():
    with seen("imagenet_utils.obtain_input_shape", "keras"):
        assert private.application_shape(None, "imagenet", True, "softmax") == (224, 224, 3)
        assert private.application_shape(None, None, False, "?") == (None, None, 3)
        with pytest.raises(ValueError, match="Received: classifier_activation="):
            private.application_shape(None, "imagenet", True, "relu")


def test_direction():
    with seen("Metric._direction", "keras"):
        assert private.direction(keras.metrics.BinaryAccuracy()) == "up"
        assert private.direction("a name") is None


def test_global_generator():
    with seen("GLOBAL_SEED_GENERATOR", "keras"):
        generator = keras.random.SeedGenerator(1)
        before = np.array(generator.state)
        with private.global_generator(generator):
            keras.random.uniform((1,))
        drawn = np.array(generator.state)
        assert not np.array_equal(before, drawn)
        keras.random.uniform((1,))
        np.testing.assert_array_equal(generator.state, drawn)


def test_schedule_of(optimizer):
    with seen("Optimizer._learning_rate", "keras"):
        assert isinstance(private.schedule_of(optimizer), keras.optimizers.schedules.CosineDecay)
        assert float(private.schedule_of(keras.optimizers.SGD(0.5))) == 0.5


def test_variable_index(model, optimizer):
    with seen("Optimizer._get_variable_index", "keras"):
        variables = model.trainable_variables
        found = [private.variable_index(optimizer, variable) for variable in variables]
        assert found == list(range(len(variables)))


def test_has_weight_decay(model, optimizer):
    with seen("Optimizer._use_weight_decay", "keras"):
        kernel, bias = model.get_layer("dense").trainable_variables
        found = [private.has_weight_decay(optimizer, variable) for variable in (kernel, bias)]
        assert found == [True, False]


def test_gradients_are_summed(model, optimizer):
    name = "_all_reduce_sum_gradients"
    with seen(f"Optimizer.{name}", "keras"):
        assert callable(getattr(type(optimizer), name, None))
        own = getattr(optimizer, name)
        with private.gradients_are_summed(optimizer):
            assert getattr(optimizer, name) is list
        assert getattr(optimizer, name) == own


def test_worker_count():
    with seen("StrategyExtended._num_workers", "tensorflow"):
        assert private.worker_count(tf.distribute.get_strategy()) == 1
        workers = tf.distribute.MultiWorkerMirroredStrategy().extended
        assert getattr(workers, "_num_workers", None) == 1


def test_is_op_determinism_enabled():
    with seen("config.is_op_determinism_enabled", "tensorflow"):
        assert private.is_op_determinism_enabled() in (False, True)


def test_with_constants():
    with seen("convert_variables_to_constants_v2", "tensorflow"):
        variable = tf.Variable(2.0)
        twice = tf.function(lambda x: x * variable).get_concrete_function(tf.TensorSpec(()))
        frozen = private.with_constants(twice)
        assert not frozen.variables and len(frozen.inputs) == 1
        assert float(frozen(tf.constant(3.0))[0]) == 6.0


def test_litert():
    with seen("ConverterError, schema_py_generated", "tensorflow"):
        function = tf.function(tf.math.tanh).get_concrete_function(tf.TensorSpec((2,)))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
        assert private.litert_model(converter.convert()).OperatorCodesLength() == 1
        erfinv = tf.function(tf.math.erfinv).get_concrete_function(tf.TensorSpec((2,)))
        with pytest.raises(private.litert_failure()):
            tf.lite.TFLiteConverter.from_concrete_functions([erfinv]).convert()


def test_litert_metadata():
    with seen("flatbuffer_utils", "tensorflow"):
        function = tf.function(tf.math.tanh).get_concrete_function(tf.TensorSpec((2,)))
        data = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
        entries = {"name": b"content", "other": b"more"}
        data = private.litert_with_metadata(data, entries)
        model = private.litert_model(data)
        found = [model.Metadata(model.MetadataLength() - i) for i in (2, 1)]
        for entry, (name, content) in zip(found, entries.items(), strict=True):
            assert entry.Name().decode() == name
            buffer = model.Buffers(entry.Buffer()).DataAsNumpy()
            assert buffer.tobytes() == content
            assert data.index(content) % 16 == 0


def test_zip_directory():
    """Of the standard library, whose versions the tests run with."""
    for count in (0, 3, 70_000):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for number in range(count):
                archive.writestr(str(number), b"")
            archive.comment = b"a comment"
        entries, size = private.zip_directory(content)
        assert entries == count and count * 47 <= size < len(content.getvalue())
    assert private.zip_directory(io.BytesIO(b"text")) == (0, 0)


def test_python_unpickler():
    """Of the standard library, too."""
    assert private.PythonUnpickler(io.BytesIO(pickle.dumps([1, "a"]))).load() == [1, "a"]
    assert callable(private.PythonUnpickler.dispatch[pickle.BININT1[0]])


def test_tuner_saves_json(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")
    with seen("keras_tuner.src.utils.save_json", "keras-tuner"):
        trial, path = keras_tuner.engine.trial.Trial(keras_tuner.HyperParameters()), tmp_path / "t"
        trial.save(path)
        file, written = path.stat().st_ino, []
        trial.save(path)
        # In place, for which it is replaced.
        assert path.stat().st_ino == file
        with private.tuner_saves_json(lambda *saved: written.append(saved)):
            trial.save(path)
        assert written == [(path, trial.get_state())]
        path.unlink()
        trial.save(path)
        assert keras_tuner.engine.trial.Trial.load(path).get_state() == trial.get_state()


def test_no_other_module_uses_private_names():
    package = Path(private.__file__).parents[1]
    names = set(re.findall(r"\._[a-zA-Z]\w+", Path(private.__file__).read_text(encoding="utf-8")))
    roots = (r"keras(_tuner)?\.src", r"tensorflow\.(lite\.)?python")
    pattern = "|".join([*map(re.escape, names), *roots])
    for path in package.rglob("*.py"):
        if path != Path(private.__file__):
            assert not re.search(pattern, path.read_text(encoding="utf-8")), path
