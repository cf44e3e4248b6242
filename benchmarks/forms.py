"""Accuracy of every form of a trained model on all test images of the digits.

    python benchmarks/forms.py runs/digits/model.keras

Every form gets the same 360 images: as pixels, and as PNG files where it takes files.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnet.data import load_dataset
from keras_resnet.evaluation.predictor import Classifier, calibration_batches
from keras_resnet.experiment.forms import open_forms
from keras_resnet.export import export, export_hub, load_exported
from keras_resnet.utils.tables import markdown_table
from keras_resnet.weights import load_model

NAMES = {"saved_model": "saved_model", "tflite": "float32.tflite", "onnx": "float32.onnx"}
OTHERS = ("hub", "float16.tflite", "int8.tflite")


def main() -> None:
    """Exports a model in every form, and prints the accuracy of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="A .keras file, trained on the digits")
    path = parser.parse_args().model
    model = load_model(path)
    dataset = load_dataset("digits", image_size=model.input_shape[1])
    ((images, labels, _),) = dataset.eval_batches("test", dataset.num_examples("test"))
    images, labels = images.numpy(), labels.numpy()
    files = tf.constant([tf.io.encode_png(image).numpy() for image in images])
    rows = []

    def measured(form: str, scores: np.ndarray) -> None:
        right = int(np.sum(np.argmax(scores, axis=1) == labels))
        rows.append({"form": form, "right": f"{right} of {len(labels)}",
                     "accuracy %": f"{100 * right / len(labels):.2f}"})  # fmt: skip

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        forms = open_forms(model, folder)
        measured(".keras", forms.pop("keras")(images))
        export_hub(model, folder / "hub", "classification")
        export(model, folder / "float16.tflite", "litert", quantize="float16")
        batches = calibration_batches("digits", model)
        export(model, folder / "int8.tflite", "litert", quantize="int8", calibration=batches)
        opened = {
            **{NAMES[form]: one for form, one in forms.items()},
            **{name: load_exported(folder / name) for name in OTHERS},
        }
        for name, one in opened.items():
            measured(f"{name}, pixels", one(images))
        hub, saved = (
            tf.saved_model.load(str(folder / name)).signatures for name in ("hub", "saved_model/1")
        )
        measured("hub, files", hub["serving_bytes"](encoded=files)["logits"])
        measured("saved_model, files", saved["serving_default"](image_bytes=files)["probabilities"])
        for name in ("saved_model", "int8.tflite"):
            classifier = Classifier(folder / name, top=1)
            pixels = np.stack([classifier.read(file) for file in files.numpy()])
            best = [int(names[0]) for names, _ in classifier.classify(pixels)]
            measured(f"{name}, by predict", np.eye(len(dataset.class_names))[best])
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
