"""Feature vectors of the images of a folder, as a table. Needs TensorFlow."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.data.folder import find_splits
from keras_resnet.data.npy import IMAGE_CHANNELS
from keras_resnet.data.transforms import Transforms
from keras_resnet.evaluation.predictor import read_images, transforms_for
from keras_resnet.export import ExportedModel
from keras_resnet.export.endpoints import endpoint
from keras_resnet.export.reading import network_of_images, open_any, open_network
from keras_resnet.preprocessing import Size
from keras_resnet.utils import checks
from keras_resnet.utils.files import replacing
from keras_resnet.utils.remote import local_path
from keras_resnet.utils.tables import require_pyarrow


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """A row for each image of a folder.

    Attributes:
        paths: The image files.
        classes: Name of each one's class folder; "" for images that are in none.
        vectors: Its features, float32 `(images, features)`.
    """

    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    vectors: np.ndarray

    def write(self, path: str | Path) -> None:
        """Writes the table atomically: columns `path`, `class`, `feature_0`, `feature_1`, ...

        Args:
            path: A file that ends in .csv, whose numbers are read back to the last bit, or in
                .parquet. Bytes of names that are not UTF-8 are written with escapes.

        Raises:
            ValueError: If the path ends otherwise, or is an address.
            ImportError: If `pyarrow`, which pandas reads Parquet with, is not installed.
        """
        path = local_path("path", path)
        writer = table_writer(path)
        names = [f"feature_{i}" for i in range(self.vectors.shape[1])]
        shown = [str(one).encode("utf-8", "backslashreplace").decode() for one in self.paths]
        classes = [one.encode("utf-8", "backslashreplace").decode() for one in self.classes]
        with replacing(path) as temporary:
            writer(temporary, {"path": shown, "class": classes}, names, self.vectors)


def embed(
    model: keras.Model | ExportedModel | str | Path,
    folder: str | Path,
    *,
    image_size: Size | str | None = None,
    resize: int | None = None,
    batch_size: int = 32,
) -> Embeddings:
    """Returns the feature vector of every image in a folder.

    Images are decoded and cropped as by `predict`, and unreadable ones are skipped with a warning.
    The features are the input of the classifier: the globally averaged last map of a network. In
    a model of others that is a last Dense layer of vectors with softmax, sigmoid or no activation.

    Args:
        model: A trained network, or its path or name as for `load_model`; a Hub module
            of features; another exported model whose output is neither probabilities nor logits.
        folder: Folder of images; those in folders inside are read, too. The class of an image is
            the name of its folder where that lies in `folder`, or in a split of it (`train/`,
            `val/`, `test/`).
        image_size: As for `predict`.
        resize: As for `predict`.
        batch_size: Number of images per call of the model.

    Returns:
        The paths, classes and vectors, in the order of the names.

    Raises:
        ValueError: If an argument is wrong, or there is no image that can be read.
    """
    checks.integer("batch_size", batch_size)
    _check_folder(folder)
    features = features_of(model)
    transforms = transforms_for(features, image_size, resize)
    return _table(Path(folder), transforms, features, batch_size)


def embed_pixels(folder: str | Path, side: int = 16, channels: int = 3) -> Embeddings:
    """Returns the pixels of every image in a folder, as the rows of `embed`.

    They tell classes apart where images are small and alike. Of an image the center square is
    taken, resized to `side` pixels: in gray, in [0, 1], or of 2, 5 or more `channels` all of them.
    """
    _check_folder(folder)
    channels = 1 if channels in IMAGE_CHANNELS else channels
    transforms = Transforms(image_size=side, eval_resize=side, channels=channels, lighting=0.0)

    def pixels(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype("float32") / 255

    return _table(Path(folder), transforms, pixels, 32)


def _check_folder(folder: str | Path) -> None:
    if not Path(folder).is_dir():
        raise ValueError(f"`folder` must be a folder of images. Received: folder={str(folder)!r}")


def _table(
    folder: Path,
    transforms: Transforms,
    features: Callable[[np.ndarray], np.ndarray],
    batch_size: int,
) -> Embeddings:
    paths: list[Path] = []
    vectors: list[np.ndarray] = []
    read = read_images(folder, transforms)
    while batch := list(itertools.islice(read, batch_size)):
        paths += [path for path, _ in batch]
        vectors.append(features(np.stack([image for _, image in batch])))
    if not vectors or vectors[0].ndim != 2:
        shape = f"outputs of shape {vectors[0].shape}" if vectors else "no image that can be read"
        raise ValueError(
            "`folder` must have images, and `model` a vector for each of them. "
            f"Received: folder={str(folder)!r} and {shape}"
        )
    splits = _splits(folder)
    classes = tuple(_class_of(path.relative_to(folder), splits) for path in paths)
    return Embeddings(tuple(paths), classes, np.concatenate(vectors))


def table_writer(path: str | Path) -> Any:
    """Returns the function that writes a table of that file name; see `Embeddings.write`."""
    suffix = Path(path).suffix
    if suffix not in _WRITERS:
        raise ValueError(
            f"`path` must end in {' or '.join(map(repr, _WRITERS))}. Received: path={str(path)!r}"
        )
    if suffix == ".parquet":
        require_pyarrow()
    return _WRITERS[suffix]


def _write_csv(
    path: Path, texts: dict[str, list[str]], names: list[str], vectors: np.ndarray
) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*texts, *names])
        for *row, vector in zip(*texts.values(), vectors, strict=True):
            table.writerow([*row, *map(str, vector)])  # the shortest that float32 reads back


def _write_parquet(
    path: Path, texts: dict[str, list[str]], names: list[str], vectors: np.ndarray
) -> None:
    pyarrow, parquet = require_pyarrow()
    columns = {**texts, **dict(zip(names, vectors.T, strict=True))}
    parquet.write_table(pyarrow.table(columns), path)


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet}


def features_of(model: keras.Model | ExportedModel | str | Path) -> ExportedModel:
    """Returns a model, of whatever form, from images in [0, 255] to features."""
    given = model.name if isinstance(model, keras.Model) else str(model)
    file: Path | None = None
    if isinstance(model, (str, Path)):
        model, file = open_any(model)
    if isinstance(model, keras.Model):
        net, prepared = network_of_images(model, file, given)
        net = endpoint(net, "feature_vector")
        return open_network(net, file or Path(given), "features", None, prepared)
    if model.output in ("probabilities", "logits"):
        raise ValueError(
            "`model` must be a network, its .keras file, or an exported model of features. "
            f"Received: {str(model.path)!r}, which gives {model.output}"
        )
    return model


def _splits(folder: Path) -> set[str]:
    """Returns the names of the folders of splits; none in a folder of class folders."""
    try:
        return {path.name for path in find_splits(folder).values() if path != folder}
    except ValueError:
        return set()


def _class_of(path: Path, splits: set[str]) -> str:
    """Returns the class of an image by its path in the folder, "" if it is in no class folder."""
    folders = path.parts[:-1]
    folders = folders[1:] if folders and folders[0] in splits else folders
    return folders[0] if len(folders) == 1 else ""
