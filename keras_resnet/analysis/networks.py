"""Networks by name: ours, those of `keras.applications`, and saved models."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import keras

from keras_resnet.analysis.published import APPLICATIONS, Accuracy, published_accuracy
from keras_resnet.architectures import ARCHITECTURES, VERSIONS
from keras_resnet.models.densenet import DENSE_ARCHITECTURES
from keras_resnet.models.resnet import build
from keras_resnet.utils import checks
from keras_resnet.weights.saving import load_model

_PREFIX = "keras.applications."

# Of the densely connected ones, those that `keras.applications` has are taken from there.
_OURS = ARCHITECTURES | {
    name: line
    for name, line in DENSE_ARCHITECTURES.items()
    if not hasattr(keras.applications, name)
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that can be built from its name alone, also in another process.

    Attributes:
        name: As the user wrote it.
        label: What figures call it.
        library: "keras_resnet", "keras.applications" or "file".
        published: Its published accuracy, where there is one.
    """

    name: str
    label: str
    library: str
    published: Accuracy | None

    @property
    def file_name(self) -> str:
        """Its name as part of a file's."""
        return re.sub(r"[^\w.-]+", "_", self.name).strip("._")

    def build(self, image_size: int | None = None) -> keras.Model:
        """Builds it with random weights; a saved model is loaded.

        Args:
            image_size: Side of the RGB images; the network's own where not given.

        Raises:
            ValueError: If the network does not take images of that size.
        """
        if self.library == "file":
            return load_model(self.name)
        options = {} if image_size is None else {"input_shape": (image_size, image_size, 3)}
        try:
            if self.library == "keras_resnet":
                base, marks = _marks(self.name)
                return build(base, weights=None, **marks, **options)
            builder = getattr(keras.applications, self.label.removesuffix(" (Keras)"))
            return builder(weights=None, **options)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"`image_size` must suit {self.label}: {reason} Received: image_size={image_size}"
            ) from error

    def side(self, image_size: int | None = None) -> int:
        """Returns the side of the images that the network is shown if it takes any.

        That asked for, else that of its published accuracy, else 224 pixels.
        """
        return image_size or (self.published.image_size if self.published else 224)


def closed_shape(model: keras.Model, side: int) -> tuple[int, ...]:
    """Returns the shape of a model's images, with `side` where it leaves their sides open."""
    return tuple(side if length is None else length for length in model.input_shape[1:])


def application_names() -> tuple[str, ...]:
    """Returns the builders of `keras.applications`."""
    return tuple(
        name for name, value in vars(keras.applications).items() if inspect.isfunction(value)
    )


def find_network(name: str) -> Network:
    """Returns the network of that name.

    Args:
        name: One of ours ("ResNet50", with marks "ResNet50_v1.5" or "ResNet34_A"), one of
            `keras.applications` ("VGG16"; "keras.applications.ResNet50" where the name is ours
            too), or the path of a `.keras` file.

    Raises:
        ValueError: If there is none.
    """
    if name.endswith(".keras"):
        return Network(name, "/".join(Path(name).with_suffix("").parts[-2:]), "file", None)
    if _marks(name) is not None:
        return Network(name, name, "keras_resnet", published_accuracy(name))
    applications = application_names()
    short = name.removeprefix(_PREFIX)
    known = (*_OURS, *(n for n in applications if n not in _OURS))
    checks.one_of("model", short, applications if name.startswith(_PREFIX) else known)
    label = f"{short} (Keras)" if short in _OURS else short
    return Network(name, label, "keras.applications", APPLICATIONS.get(short))


def _marks(name: str) -> tuple[str, dict[str, str]] | None:
    """Splits the name of one of ours into the table's name and options; None for others."""
    base, marks = name, []
    while base not in _OURS:  # whose own names have marks too: ResNeXt50_32x4d
        base, found, mark = base.rpartition("_")
        if not found:
            return None
        marks.append(mark)
    options = {}
    for mark in marks:
        option = "version" if mark in VERSIONS else "shortcut"
        options[option] = checks.one_of(
            option, mark, ("A", "B", "C") if option == "shortcut" else VERSIONS
        )
    return base, options
