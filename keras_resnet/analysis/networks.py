"""Networks by name: ours, those of `keras.applications`, and saved models."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_resnet import architectures
from keras_resnet.analysis.published import APPLICATIONS, Accuracy, published_accuracy
from keras_resnet.models.builders import build
from keras_resnet.preprocessing import sides_of
from keras_resnet.utils import checks
from keras_resnet.utils.checks import Size, checked_size
from keras_resnet.weights.saving import load_model

_PREFIX = "keras.applications."


@dataclasses.dataclass(frozen=True)
class NamedNetwork:
    """A network that can be built from its name alone, also in another process.

    Attributes:
        name: As the user wrote it.
        label: Its name in figures.
        library: "keras_resnet", "keras.applications" or "file".
    """

    name: str
    label: str
    library: str
    published: Accuracy | None

    @property
    def file_name(self) -> str:
        """Its name as part of a file's."""
        return re.sub(r"[^\w.-]+", "_", self.name).strip("._")

    def build(self, image_size: Size | str | None = None) -> keras.Model:
        """Builds it with random weights for RGB images of a size; a saved model is loaded.

        Raises:
            ValueError: If the network does not take images of that size.
        """
        if self.library == "file":
            return load_model(self.name)
        options = (
            {} if image_size is None else {"input_shape": (*sides_of(self.size(image_size)), 3)}
        )
        try:
            if self.library == "keras_resnet":
                return build(architectures.find_architecture(self.name), weights=None, **options)
            builder = getattr(keras.applications, self.name.removeprefix(_PREFIX))
            return builder(weights=None, **options)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"`image_size` must suit {self.label}: {reason} Received: image_size={image_size}"
            ) from error

    def size(self, image_size: Size | str | None = None) -> Size:
        """Returns the size asked for, else that of its published accuracy, else 224 pixels."""
        if image_size is not None:
            return checked_size("image_size", image_size)
        return self.published.image_size if self.published else 224


def closed_shape(shape: Sequence[int | None], size: Size) -> tuple[int, ...]:
    """Returns the shape of a model's images, with `size` where it leaves their sides open."""
    given = (*sides_of(size), 3)
    return tuple(own or side for own, side in zip(shape, given, strict=False))


def application_names() -> tuple[str, ...]:
    """Returns the builders of `keras.applications`."""
    builders = inspect.getmembers(keras.applications, inspect.isfunction)
    return tuple(name for name, _ in builders)


def find_network(name: str) -> NamedNetwork:
    """Returns the network of that name, or raises a ValueError.

    It is one of ours ("ResNet50", or with another shortcut "ResNet34_A"), one of
    `keras.applications` ("VGG16"; "keras.applications.ResNet50" where the name is ours too), or the
    path of a `.keras` file.
    """
    if name.endswith(".keras"):
        return NamedNetwork(name, "/".join(Path(name).with_suffix("").parts[-2:]), "file", None)
    applications = application_names()
    ours = architectures.RESIDUAL_NETWORKS
    # Those DenseNets that `keras.applications` has are taken from there.
    if architectures.is_named(name) and name not in set(applications) - set(ours):
        label = architectures.find_architecture(name).name
        return NamedNetwork(name, label, "keras_resnet", published_accuracy(label))
    short = name.removeprefix(_PREFIX)
    known = dict.fromkeys((*architectures.ARCHITECTURES, *applications))
    checks.one_of("model", short, known if short == name else applications)
    label = f"{short} (Keras)" if short in ours else short
    return NamedNetwork(name, label, "keras.applications", APPLICATIONS.get(short))
