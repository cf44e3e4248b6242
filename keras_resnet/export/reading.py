"""Trained and exported models of every format, opened to be called in one way.

Needs TensorFlow; LiteRT and ONNX files need the extra `export`.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.export.copies import (
    image_network,
    missing_standardization,
    of_any_batch,
)
from keras_resnet.export.endpoints import KINDS, SIGMOID_LOGITS
from keras_resnet.export.formats import (
    ARCHIVED,
    LABELS_SHA256,
    MODEL_SHA256,
    ONNX_LABELS,
    ONNX_PREPROCESSING,
    ONNX_SHA256,
    as_floats,
    as_integers,
    sha256,
)
from keras_resnet.export.verification import SAVED_MODEL, load_saved_model
from keras_resnet.models.hub import is_name, load_with_file
from keras_resnet.network import class_names_of
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery.graphs import classifier_of, functional_config, output_activation
from keras_resnet.utils import checks, private
from keras_resnet.utils.archives import open_archive
from keras_resnet.utils.terminal import notices_left_out
from keras_resnet.weights.beside import (
    LABELS,
    PREPROCESSING,
    labels_beside,
    local_file,
    parse_labels,
    preprocessing_beside,
    unreadable,
)
from keras_resnet.weights.hugging_face import is_address

# The key, in a tensor of an ONNX file, of the name of the file that has its numbers.
_EXTERNAL = b"\n\x08location\x12"


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """A trained model of any format, ready to be called.

    Attributes:
        path: File or directory of the model.
        image_shape: `(H, W, C)` of the images; None for sides of any length.
        output: "probabilities", "logits", or the name of another output.
        labels: Name of every class as stored with the model, or None.
        preprocessing: What its weights want done to an image, as stored with it, or None.
        run: From images, float32 in [0, 255], `(batch, H, W, C)`, to `(batch, classes)`.
    """

    path: Path
    image_shape: tuple[int | None, int | None, int]
    output: str
    labels: tuple[str, ...] | None
    run: Callable[[np.ndarray], np.ndarray]
    preprocessing: Preprocessing | None = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the model's outputs for images in [0, 255], `(batch, H, W, C)`."""
        images = np.asarray(images, "float32")
        given = images.shape[1:]
        sides = itertools.zip_longest(self.image_shape, given, fillvalue=0)
        if any(own not in (None, side) for own, side in sides):
            raise ValueError(
                f"`images` must be a batch of images (H, W, C) of shape {self.image_shape}, where "
                f"None is any length. Received: shape {images.shape}"
            )
        try:
            return np.asarray(self.run(images))
        except (MemoryError, tf.errors.ResourceExhaustedError):
            raise
        except Exception as error:  # Whatever the runtime raises for a damaged graph.
            raise unreadable(self.path, error) from error


def load_exported(path: str | Path, frozen: bool = False) -> ExportedModel:
    """Opens a trained model of any format.

    Args:
        path: A `.keras` file that standardizes its images; the directory of a Hub module, for
            images in [0, 1]; a SavedModel or the folder of its versions, of which the highest
            counts; a `.tflite` or `.onnx` file of `export`; or, as for `load_model`,
            "hf://owner/name" or a name of published weights or of a network. Files and directories
            may be at an address such as gs://bucket/model.onnx.
        frozen: Whether the variables of a SavedModel, module or network become constants, for which
            TensorFlow chooses a layout once instead of at each call. Calls take less time on some
            processors, opening takes seconds longer, and the outputs differ by rounding. LiteRT and
            ONNX files have constants anyway.

    Raises:
        ValueError: If there is no model at `path`, it cannot be read or called with images, or it
            is not what this package wrote, by its checksums. Files of older versions have fewer.
        ImportError: If the package that runs it is missing.
    """
    model, file = open_any(path, frozen)
    if isinstance(model, ExportedModel):
        return model
    net, prepared = network_of_images(model, file, str(path))
    output, labels = output_name(net), labels_of(model, file)
    return open_network(net, file or Path(path), output, labels, prepared, frozen)


def open_any(
    path: str | Path, frozen: bool = False
) -> tuple[keras.Model | ExportedModel, Path | None]:
    """Opens a model of any form: all that is told of one by its path is decided here.

    Args:
        path: As for `load_exported`.
        frozen: As for `load_exported`, of a SavedModel.

    Returns:
        A network as `load_model` reads it, else an exported model; and the local file, None for
        published weights.
    """
    if is_address(path) or is_name(path):
        return load_with_file(path)
    path = local_file(path)
    if path.is_dir():
        versions = [folder for folder in path.iterdir() if folder.name.isdecimal()]
        saved = max(versions, key=lambda folder: int(folder.name), default=path)
        if (saved / SAVED_MODEL).is_file():
            return _open_saved_model(saved, frozen), saved
    openers = {".tflite": _open_litert, ".onnx": _open_onnx}
    if not path.is_file() or path.suffix not in (".keras", *openers):
        raise ValueError(
            "`path` must be an existing .keras, .tflite or .onnx file, the directory of a Hub "
            "module or SavedModel, hf://owner/name, or the name of published weights. "
            f"Received: {str(path)!r}"
        )
    if path.suffix == ".keras":
        return load_with_file(path)
    return openers[path.suffix](path), path


def output_name(model: Any) -> str:
    """Returns "probabilities" or "logits" for a classifier's output, "outputs" for any other.

    Probabilities of softmax add up to 1; of sigmoid, each is a class's own.
    """
    activation = output_activation(functional_config(model))
    return {"softmax": "probabilities", "sigmoid": "probabilities", "linear": "logits"}.get(
        activation or "", "outputs"
    )


def labels_of(model: keras.Model, file: Path | None) -> tuple[str, ...] | None:
    """Returns a model's names of its classes, else those that lie beside its local file, if any.

    Those beside a model that ends in no classifier are of other classes: there are none then.
    """
    names = class_names_of(model)
    return names if names or file is None or not classifies(model) else labels_beside(file)


def classifies(model: keras.Model) -> bool:
    """Returns whether a model ends in a score for each class."""
    return isinstance(classifier_of(model), keras.layers.Dense) or output_name(model) != "outputs"


def network_of_images(
    model: keras.Model, file: Path | None, given: str
) -> tuple[keras.Model, Preprocessing | None]:
    """Returns a network of images in [0, 255], and what a trained one wants done to an image.

    Raises:
        ValueError: If the model takes no images, or nobody tells how to prepare them. The error
            names what was `given` for it.
    """
    argument = "model" if file is None else "path"
    shapes = [tuple(value.shape[1:]) for value in getattr(model, "inputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) != 3:
        taken = " and ".join(map(str, shapes)) or "unknown"
        raise ValueError(
            f"`{argument}` must be a functional model of images (H, W, C) alone. "
            f"Received: {argument}={given!r}, whose inputs are {taken}"
        )
    try:
        missing_standardization(model, argument, given)
    except ValueError as error:
        raise ValueError(
            f"`{argument}` must standardize its images itself, by a layer Normalization or "
            f"Rescaling in front, or remember how, or have a {PREPROCESSING} beside it, as "
            "Preprocessing.to_json returns it; or give what `keras-resnet export "
            "--preprocessing imagenet` makes of it, if ImageNet's mean and deviation were its "
            f"own. Received: {argument}={given!r}, without any"
        ) from error
    return image_network(model)


def _prepared(text: str | bytes | None, path: Path) -> Preprocessing | None:
    try:
        return None if text is None else Preprocessing.from_json(text)
    except ValueError as error:
        raise unreadable(path, error) from error


def open_network(
    model: keras.Model,
    path: Path,
    output: str,
    labels: tuple[str, ...] | None,
    preprocessing: Preprocessing | None,
    frozen: bool = False,
) -> ExportedModel:
    """Returns a network of images in [0, 255] as a model of a file; see `load_exported`."""
    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    run = tf.function(lambda images: of_any_batch(model, images), [spec], autograph=False)
    run = _with_constants(run.get_concrete_function()) if frozen else run
    return ExportedModel(path, spec.shape[1:], output, labels, run, preprocessing)


def _with_constants(function: Any) -> Callable[[Any], tf.Tensor]:
    """Returns a function of one input and one output with constants for its variables."""
    constant = private.with_constants(function)
    # What is no variable, such as the table of a module of others, is an input now.
    captured = zip(function.graph.internal_captures, function.captured_inputs, strict=True)
    held = {inner.name: outer for inner, outer in captured}
    rest = [held[value.name] for value in constant.inputs[1:]]
    return lambda images: constant(tf.convert_to_tensor(images), *rest)[0]


def _open_saved_model(path: Path, frozen: bool) -> ExportedModel:
    try:
        module = load_saved_model(path)
    except (OSError, tf.errors.OpError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise unreadable(path, error) from error  # Whatever a damaged graph leads to.
    signature, argument, shape, name = _signature_of_images(module, path)
    assets = path / "assets" / LABELS
    labels, prepared = labels_beside(assets), preprocessing_beside(assets)
    # Hub modules can be called, and take images in [0, 1]; those of `export` have signatures only.
    hub = callable(module)
    # Modules of others name their output as they like; classifiers on TF Hub give logits.
    output = "logits" if hub and name not in KINDS.values() else name
    sigmoid = hub and name == SIGMOID_LOGITS
    output = "probabilities" if sigmoid else output
    call = (
        _with_constants(signature)
        if frozen
        else lambda images: signature(**{argument: images})[name]
    )

    def run(images: np.ndarray) -> np.ndarray:
        outputs = call(tf.constant(images / np.float32(255) if hub else images))
        return tf.sigmoid(outputs) if sigmoid else outputs

    return ExportedModel(path, tuple(shape[1:]), output, labels, run, prepared)


def _signature_of_images(module: Any, path: Path) -> tuple[Any, str, tf.TensorShape, str]:
    """Returns a SavedModel's signature of images, the input, its shape, and the output."""
    for signature in module.signatures.values():
        inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
        if all(spec.shape.rank != 4 for spec in inputs.values()):
            continue
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                "`path` must be a SavedModel of one input and one output to be run here. Received: "
                f"{str(path)!r} with inputs {', '.join(sorted(inputs))} and outputs "
                f"{', '.join(sorted(outputs))}"
            )
        ((argument, spec),), (name,) = inputs.items(), outputs
        return signature, argument, spec.shape, name
    raise ValueError(
        "`path` must be a SavedModel with a signature of images (batch, H, W, C). "
        f"Received: {str(path)!r}"
    )


def _open_litert(path: Path) -> ExportedModel:
    litert = checks.import_extra("ai_edge_litert.interpreter", "LiteRT files", "export")
    content = _read(path)
    labels, prepared = _litert_texts(content, path)
    try:
        with notices_left_out():
            interpreter = litert.Interpreter(model_content=content)
            interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner("serving_default")
    except (ValueError, RuntimeError) as error:
        raise unreadable(path, error) from error
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    output = _check_names(path, inputs, outputs)
    # An interpreter computes in tensors of its own.
    lock = threading.Lock()

    def run(images: np.ndarray) -> np.ndarray:
        if not len(images):  # which the interpreter cannot take
            return np.zeros((0, *outputs[output]["shape"][1:]), "float32")
        with lock:
            received = runner(images=as_integers(images, inputs["images"]))[output]
            return as_floats(received, outputs[output])

    shape = _image_shape(inputs["images"]["shape_signature"])
    return ExportedModel(path, shape, output, labels, run, prepared)


def _read(path: Path) -> bytes:
    """Returns the content of a file, which is verified and run as it is now, not read again."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def _litert_texts(
    content: bytes, path: Path
) -> tuple[tuple[str, ...] | None, Preprocessing | None]:
    """Returns the labels and the preprocessing in the archive behind a LiteRT model, if any.

    The model in front is verified against its checksum there, if it has one.
    """
    file = io.BytesIO(content)
    try:
        model, told = private.litert_model(content), {}
        for entry in map(model.Metadata, range(model.MetadataLength())):
            if (name := entry.Name().decode()) in (ARCHIVED, LABELS_SHA256):
                told[name] = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode()
        digest, archived = told.get(LABELS_SHA256), told.get(ARCHIVED)
        # Files of older versions have no list of what is archived, and maybe no archive.
        if not told and not zipfile.is_zipfile(file):
            return None, None
        with open_archive(file) as archive:
            members = {member.filename: member.header_offset for member in archive.infolist()}
            if lost := set((archived or "").splitlines()) - members.keys():
                raise ValueError(f"behind its model there is no {', '.join(sorted(lost))}")
            if MODEL_SHA256 in members:
                digest_of_model = sha256(content[: min(members.values())])
                if digest_of_model != archive.read(MODEL_SHA256).decode():
                    raise ValueError("its model does not have its SHA-256")
            described = archive.read(PREPROCESSING) if PREPROCESSING in members else None
            prepared = _prepared(described, path)
            if digest is None and LABELS not in members:
                return None, prepared
            text = archive.read(LABELS)
    except Exception as error:  # Whatever the schema's and zip's readers raise for damaged files.
        raise unreadable(path, error) from error
    return _verified(text, digest, path), prepared


def _verified(text: bytes, digest: str | None, path: Path) -> tuple[str, ...]:
    """Returns the labels inside of a file, verified against their checksum if it has one."""
    if digest not in (None, sha256(text)):
        raise unreadable(path, ValueError("its labels do not have their SHA-256"))
    return parse_labels(text, path)


def _open_onnx(path: Path) -> ExportedModel:
    onnxruntime = checks.import_extra("onnxruntime", "ONNX files", "export")
    content = _read(path)
    try:
        if ONNX_SHA256.encode() in content and sha256(content[:-64]).encode() != content[-64:]:
            raise ValueError("it does not have its SHA-256")
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes are not public.
        if _EXTERNAL in content:
            raise ValueError(
                "`path` must be an .onnx file with its weights inside, as keras_resnet.export."
                f"export writes it. Received: {str(path)!r}, whose weights are in other files"
            ) from error
        raise unreadable(path, error) from error
    inputs = {value.name: value for value in session.get_inputs()}
    output = _check_names(path, inputs, [value.name for value in session.get_outputs()])
    metadata = session.get_modelmeta().custom_metadata_map
    labels = None
    if ONNX_LABELS in metadata or LABELS_SHA256 in metadata:
        text = metadata.get(ONNX_LABELS, "").encode()
        labels = _verified(text, metadata.get(LABELS_SHA256), path)
    return ExportedModel(
        path,
        _image_shape(inputs["images"].shape),
        output,
        labels,
        lambda images: session.run([output], {"images": images})[0],
        _prepared(metadata.get(ONNX_PREPROCESSING), path),
    )


def _check_names(path: Path, inputs: Any, outputs: Any) -> str:
    """Returns the name of the one output."""
    if list(inputs) != ["images"] or len(outputs) != 1:
        raise ValueError(
            "`path` must be a .tflite or .onnx file that keras_resnet.export.export wrote, with "
            f"the input 'images' and one output. Received: {str(path)!r} with inputs "
            f"{', '.join(inputs)} and outputs {', '.join(outputs)}"
        )
    return next(iter(outputs))


def _image_shape(shape: Sequence[Any]) -> Any:
    """Returns the shape of one image, None for sides that are negative or have a name."""
    return tuple(
        None if isinstance(side, str | None) or side <= 0 else int(side) for side in list(shape)[1:]
    )
