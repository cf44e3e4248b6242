"""A trained model in every form that is handed on, each read back and compared. TensorFlow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import keras
import numpy as np

from keras_resnet.data import ImageDataset
from keras_resnet.experiment.settings import Experiment
from keras_resnet.export import HubLayer, export_hub
from keras_resnet.export.endpoints import endpoint
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.export.verification import largest_difference, load_saved_model
from keras_resnet.naming import CLASSIFIER
from keras_resnet.network import preprocessing_of, remembered
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery.graphs import output_function
from keras_resnet.surgery.rebuilding import dtype_policy
from keras_resnet.training import Trainer, make_schedule, sgd
from keras_resnet.utils.files import write_text
from keras_resnet.weights.beside import LABELS, PREPROCESSING
from keras_resnet.weights.saving import load_model, save_model

logger = logging.getLogger(__name__)

# Of probabilities, and of features relative to the largest: the reloaded graph may fuse operations
# in another order. In 16 bits the module, which computes in float32, differs by the rounding of the
# trained model itself.
TOLERANCES = {"float32": 1e-5, "mixed_bfloat16": 0.1, "mixed_float16": 0.02}


def save(
    model: keras.Model,
    dataset: ImageDataset,
    card_of: Callable[[keras.Model], str],
    experiment: Experiment,
    others: Mapping[str, list[np.ndarray]] = MappingProxyType({}),
) -> dict[str, float]:
    """Writes card, labels.txt, model.keras and Hub modules to `workdir`, and reads them back.

    A module's card is that of the part of the model that it computes. `others` are weights of the
    same model by the name of the `.keras` file that they are written to beside model.keras.

    Returns:
        The largest difference between the outputs of the trained model and those of each form.

    Raises:
        ExportMismatchError: If one of them gives other outputs than the trained model.
    """
    workdir, allowed = Path(experiment.output.workdir), TOLERANCES[experiment.devices.precision]
    images, _, _ = next(iter(dataset.eval_batches(dataset.splits[-1], 32)))
    images = np.asarray(images, "float32")
    expected = np.asarray(model(images, training=False))

    labels, prepared = list(dataset.class_names), preprocessing_of(model)
    if network := remembered(model):
        model.remember(network.with_class_names(labels))
    else:  # A model around one of others cannot hold it.
        prepared = dataset.preprocessing(Preprocessing.unchanged(dataset.image_shape[-1]))
        write_text(workdir / PREPROCESSING, prepared.to_json())
    differences, own = {}, model.get_weights()
    for name, weights in {"model": own, **others}.items():
        model.set_weights(weights)
        save_model(model, workdir / f"{name}.keras")
        reloaded = load_model(workdir / f"{name}.keras")(images, training=False)
        outputs = np.asarray(model(images, training=False))
        differences[f"{name}.keras"] = largest_difference(np.asarray(reloaded), outputs, 1.0)
    model.set_weights(own)

    write_text(workdir / "model_card.md", card_of(model))
    write_text(workdir / LABELS, "".join(f"{label}\n" for label in labels))
    if experiment.output.export:
        for name, kind in (("saved_model", "classification"), ("feature_vector", "feature_vector")):
            export_hub(
                model,
                workdir / name,
                kind,
                preprocessing=prepared or "inside",
                labels=labels,
                card=card_of(endpoint(model, kind)),
                overwrite=True,
            )
        logits = load_saved_model(workdir / "saved_model")(images / 255)
        activation = output_function(model) or keras.activations.linear
        probabilities = activation(logits).numpy()
        differences["saved_model"] = largest_difference(probabilities, expected, 1.0)
        backbone = keras.Model(model.input, model.get_layer(CLASSIFIER).input)
        expected = np.asarray(backbone(images, training=False))
        features = load_saved_model(workdir / "feature_vector")(images / 255)
        differences["feature_vector"] = largest_difference(features.numpy(), expected, 1.0)
    worst = max(differences.values())
    if not worst <= allowed:
        raise ExportMismatchError(
            f"Every saved model must give the outputs of the trained one, within {allowed}. "
            f"Received: differences of {differences}"
        )
    logger.info(f"{' and '.join(differences)}: the outputs of the trained model, to {worst:.1g}")
    return differences


@dtype_policy("float32")
def fine_tune(
    module: str | Path,
    dataset: ImageDataset,
    split: str,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> dict[str, float]:
    """Puts a new classifier on a feature-vector module and trains both, on one device.

    Args:
        module: Folder of a Hub module that takes images in [0, 1].
        dataset: Images to train and test on.
        split: Split to test on.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: Highest learning rate; it falls to 0 along a cosine.
        seed: Seed of the classifier, the order and the augmentation.

    Returns:
        `fine_tuned_test_accuracy` (or that of the other split), and `fine_tuned_epochs`.
    """
    keras.utils.set_random_seed(seed)
    images = keras.Input(dataset.image_shape)
    features = HubLayer(module, trainable=True)(keras.layers.Rescaling(1 / 255)(images))
    outputs = keras.layers.Dense(len(dataset.class_names), activation="softmax")(features)
    steps = epochs * dataset.steps_per_epoch(batch_size)
    trainer = Trainer(
        keras.Model(images, outputs),
        sgd(make_schedule("cosine", learning_rate, total_steps=steps)),
        "sparse_categorical_crossentropy",
        [keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    trainer.fit(dataset, batch_size, steps=steps, seed=seed, validation_split=None)
    accuracy = trainer.evaluate(dataset, split, batch_size)["accuracy"]
    logger.info(
        f"feature_vector under a new classifier, both trained for {epochs} epochs: "
        f"{split} accuracy {100 * accuracy:.2f} %"
    )
    return {f"fine_tuned_{split}_accuracy": accuracy, "fine_tuned_epochs": epochs}
