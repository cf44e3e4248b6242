"""Finished models of every form, opened to be run: one way to call them, one image convention.

Needs TensorFlow; LiteRT and ONNX files need the extra `export`.
"""

from __future__ import annotations

import dataclasses
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnet.export import onnx
from keras_resnet.export.copies import image_network
from keras_resnet.export.endpoints import KINDS
from keras_resnet.export.saved_model import LABELS
from keras_resnet.export.writing import SAVED_MODEL
from keras_resnet.surgery.graphs import functional_config, output_activation
from keras_resnet.utils.checks import first_line
from keras_resnet.weights.saving import load_model

# What the output of a model is, by the activation that it ends in.
OUTPUTS = {"softmax": "probabilities", "linear": "logits"}

# Bytes; archives can claim any length.
_LONGEST_LABELS = 2**24


@dataclasses.dataclass(frozen=True)
class Artefact:
    """A finished model, ready to be called.

    Attributes:
        path: Where it lies.
        image_shape: `(H, W, C)` of the images; None for sides that may be any.
        output: "probabilities", "logits", or whatever else it gives.
        labels: Name of every class that it carries along, or None.
        run: From images, float32 in [0, 255], `(batch, H, W, C)`, to `(batch, classes)`.
    """

    path: Path
    image_shape: tuple[int | None, int | None, int]
    output: str
    labels: tuple[str, ...] | None
    run: Callable[[np.ndarray], np.ndarray]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the model's outputs for images in [0, 255], `(batch, H, W, C)`."""
        return np.asarray(self.run(np.asarray(images, "float32")))


def load_artefact(path: str | Path) -> Artefact:
    """Opens a finished model, of whatever form.

    Args:
        path: A `.keras` file that standardises its images; a Hub module's directory, ours or
            another's, for images in [0, 1]; a SavedModel, `.tflite` or `.onnx` file of `export`.

    Raises:
        ValueError: If there is none, it cannot be read, or it is of another kind.
        ImportError: If the package that runs it is missing.
    """
    path = Path(path)
    if path.is_dir() and (path / SAVED_MODEL).is_file():
        return _open_saved_model(path)
    openers = {".keras": _open_keras, ".tflite": _open_litert, ".onnx": _open_onnx}
    if not path.is_file() or path.suffix not in openers:
        raise ValueError(
            "`path` must be a .keras, .tflite or .onnx file, or the directory of a Hub module or "
            f"SavedModel. Received: {str(path)!r}"
        )
    return openers[path.suffix](path)


def _open_keras(path):
    model = image_network(load_model(path))
    config = functional_config(model)
    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    run = tf.function(lambda images: model(images, training=False), [spec], autograph=False)
    output = OUTPUTS.get(output_activation(config), "outputs")
    return Artefact(path, model.inputs[0].shape[1:], output, labels_beside(path), run)


def labels_beside(path: Path) -> tuple[str, ...] | None:
    """Returns the labels that lie beside a `.keras` file in labels.txt, as a run writes them."""
    file = path.with_name(LABELS)
    return _lines(file, file.read_bytes()) if file.is_file() else None


def _open_saved_model(path):
    try:
        module = tf.saved_model.load(str(path))
    except (OSError, tf.errors.OpError, ValueError, LookupError) as error:
        raise _unreadable(path, error) from error
    signature = module.signatures.get("serving_default")
    if signature is None and module.signatures:
        signature = next(iter(module.signatures.values()))
    inputs = {} if signature is None else signature.structured_input_signature[1]
    shape = next((spec.shape for spec in inputs.values() if spec.shape.rank == 4), None)
    if shape is None:
        raise ValueError(
            "`path` must be a SavedModel with a signature of images (batch, H, W, C). "
            f"Received: {str(path)!r}"
        )
    if len(inputs) != 1 or len(signature.structured_outputs) != 1:
        raise ValueError(
            "`path` must be a SavedModel of one input and one output to be run here. Received: "
            f"{str(path)!r} with outputs {', '.join(sorted(signature.structured_outputs))}"
        )
    (argument,), (name,) = inputs, signature.structured_outputs
    file = path / "assets" / LABELS
    labels = _lines(file, file.read_bytes()) if file.is_file() else None
    hub = callable(module)
    # What other people's modules give has any name; TF Hub's classifiers give logits.
    output = "logits" if hub and name != KINDS["feature_vector"] else name

    def run(images):
        # Modules for TF Hub take images in [0, 1]; those of `export`, which have signatures only,
        # [0, 255].
        images = tf.constant(images / np.float32(255) if hub else images)
        return signature(**{argument: images})[name]

    return Artefact(path, tuple(shape[1:]), output, labels, run)


def _open_litert(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "LiteRT files are run by ai-edge-litert: install keras-deep-residual[export]."
        ) from error
    try:
        interpreter = Interpreter(model_path=str(path))
        runner = interpreter.get_signature_runner("serving_default")
    except (ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    _check_names(path, inputs, outputs)
    (output,) = outputs
    # An interpreter computes in tensors of its own.
    lock = threading.Lock()

    def run(images):
        with lock:
            return runner(images=images)[output]

    shape = _image_shape(inputs["images"]["shape_signature"])
    return Artefact(path, shape, output, _labels_behind(path), run)


def _labels_behind(path):
    """Returns the labels in the archive behind a LiteRT model, where there is one."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if LABELS not in archive.namelist():
            return None
        with archive.open(LABELS) as file:
            return _lines(path, file.read(_LONGEST_LABELS))


def _open_onnx(path):
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "ONNX files are run by ONNX Runtime: install keras-deep-residual[export]."
        ) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes are not public.
        raise _unreadable(path, error) from error
    inputs = {value.name: value for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]
    _check_names(path, inputs, outputs)
    labels = session.get_modelmeta().custom_metadata_map.get(onnx.LABELS)
    return Artefact(
        path,
        _image_shape(inputs["images"].shape),
        outputs[0],
        labels and _lines(path, labels.encode()),
        lambda images: session.run(outputs, {"images": images})[0],
    )


def _check_names(path, inputs, outputs):
    if list(inputs) != ["images"] or len(outputs) != 1:
        raise ValueError(
            "`path` must be a .tflite or .onnx file that keras_resnet.export.export wrote, with "
            f"the input 'images' and one output. Received: {str(path)!r} with inputs "
            f"{', '.join(inputs)} and outputs {', '.join(outputs)}"
        )


def _image_shape(shape):
    """Returns the shape of one image; sides that are negative or have a name may be any."""
    sides = (int(side) if not isinstance(side, str | None) else 0 for side in list(shape)[1:])
    return tuple(side if side > 0 else None for side in sides)


def _lines(path, data):
    try:
        return tuple(data.decode("utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise _unreadable(path, error) from error


def _unreadable(path, error):
    return ValueError(f"`path` must be a whole file. Received: {str(path)!r} ({first_line(error)})")
