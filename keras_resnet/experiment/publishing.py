"""Trained Hub modules with a card each, made by one command. Needs TensorFlow."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_resnet.analysis.counting import complexity
from keras_resnet.data import ImageDataset
from keras_resnet.experiment.card import versions_text
from keras_resnet.experiment.factories import architecture_of, load_data
from keras_resnet.experiment.runner import run
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.export import load_exported
from keras_resnet.export.endpoints import class_probabilities, endpoint
from keras_resnet.export.verification import sha256_of_files
from keras_resnet.utils.escapes import markdown
from keras_resnet.utils.files import replacing, write_text
from keras_resnet.weights.saving import load_model

logger = logging.getLogger(__name__)

CARD = "CARD.md"

# By the folder of a run: the kind of its module, what that gives, and how its accuracy is found.
_KINDS = {
    "saved_model": (
        *("classification", "Maps images to the logits of the classes in `assets/labels.txt`."),
        "the largest logit",
    ),
    "feature_vector": (
        *("feature_vector", "Maps images to a feature vector, for your own classifier."),
        "logistic regression on the features of the training images",
    ),
}


def publish(experiment: Experiment, folder: str | Path) -> list[Path]:
    """Trains a network and puts its two Hub modules with their cards into a folder.

    Args:
        experiment: The run; its `workdir` holds it afterwards. A finished one is not run again.
        folder: Folder of the modules, each in one of its own; one of that name is replaced.

    Returns:
        The folders of the modules.

    Raises:
        ValueError: If the data set has no test split, or `init` is a whole model.
    """
    folder = expect_folder("folder", folder)
    expect_folder("workdir", experiment.output.workdir)
    if experiment.network.init_is_model:
        raise ValueError(
            "`init` must be weights for `model`, whose name and cost the cards state. "
            f"Received: init={experiment.network.init!r}"
        )
    dataset = load_data(experiment.data)
    if "test" not in dataset.splits:
        raise ValueError(
            "`dataset` must have a test split, which the cards state the accuracy of. "
            f"Received: dataset={experiment.data.dataset!r} with {', '.join(dataset.splits)}"
        )
    metrics = run(experiment)
    network = architecture_of(experiment.network).name.lower()
    model, written = load_model(Path(experiment.output.workdir) / "model.keras"), []
    for source, (kind, about, judged) in _KINDS.items():
        target = folder / f"{network}_{dataset.name}_{kind}"
        with replacing(target) as module:
            shutil.copytree(Path(experiment.output.workdir) / source, module)
            accuracy = f"{100 * module_accuracy(module, dataset):.2f} %"
            measured = f"test accuracy, by {judged} | {accuracy}"
            # Those of the module, which may be less than the model.
            cost = complexity(endpoint(model, kind))
            figures = {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
            card = _card(target.name, about, measured, module, dataset, {**metrics, **figures})
            write_text(module / CARD, card)
        logger.info(f"{target.name}: test accuracy {accuracy}")
        written.append(target)
    return written


def module_accuracy(module: str | Path, dataset: ImageDataset) -> float:
    """Returns the accuracy of a Hub module on the test images of a data set, in [0, 1].

    Args:
        module: Folder of a module from images in [0, 1] to logits of the data set's classes, of
            softmax or sigmoid, or to features; on these a logistic regression is trained first,
            with the training images.
        dataset: The data set.
    """
    call = load_exported(module)
    outputs, labels = _outputs(call, dataset, "test")
    if call.output in ("probabilities", "logits"):
        best = np.argmax(class_probabilities(outputs, call.output), axis=1)
        return float(np.mean(best == labels))
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ImportError(
            "Features are judged by scikit-learn: install keras-deep-residual[train]."
        ) from error
    classifier = LogisticRegression(max_iter=1000).fit(*_outputs(call, dataset, "train"))
    return float(np.mean(classifier.predict(outputs) == labels))


def _outputs(call: Callable, dataset: ImageDataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the module's outputs for the images of a split, and their labels."""
    outputs, labels = [], []
    for images, numbers, weights in dataset.eval_batches(split, 128):
        real = weights.numpy() > 0
        outputs.append(call(images)[real])
        labels.append(numbers.numpy()[real])
    return np.concatenate(outputs), np.concatenate(labels)


def _card(name: str, about: str, measured: str, module: Path, dataset, metrics) -> str:
    height, width, channels = dataset.image_shape
    sums = "\n".join(f"| `{path}` | `{sum}` |" for path, sum in sha256_of_files(module).items())
    return f"""# {name}

{about}

A TF Hub module (reusable SavedModel) that can be fine-tuned. It takes float32 images in [0, 1] of
shape (batch, {height}, {width}, {channels}), and standardizes them itself.

```python
import tensorflow as tf

module = tf.saved_model.load("saved_models/{name}")
outputs = module(tf.zeros((1, {height}, {width}, {channels})))
```

| figure | value |
|---|---|
| {measured} of {dataset.num_examples("test"):,} images |
| seed | {metrics["seed"]} |
| parameters | {metrics["parameters"]:,} |
| multiply-adds per image | {metrics["multiply_adds"]:,} |
| made with | {versions_text(metrics)} |
| made by | <code>{markdown(metrics["command"])}</code> |

**Data.** {dataset.about or markdown(dataset.name)}

**Limits.** It is trained on images of this kind only, and gives no warning for others. The accuracy
is that of one run. The network was not selected on the test images.

**License.** Apache-2.0, like this package. `assets/card.md` describes the training in full.

| file | sha256 |
|---|---|
{sums}
"""
