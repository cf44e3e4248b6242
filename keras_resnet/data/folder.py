"""Image folders: `train/`, `val/` and `test/`, each a folder of class folders. Needs TensorFlow.

A split is the images directly inside its class folders, told by the ending of their name. The
classes are those of `train/`, in the order of their names.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_resnet.data.decoding import FORMATS
from keras_resnet.data.encoded import EncodedDataset
from keras_resnet.data.views import Views

SPLIT_FOLDERS = {"train": "train", "validation": "val", "test": "test"}

_INDEX_VERSION = 1
# Clocks of file systems may stand still for so long, in nanoseconds: a folder changed a moment ago
# may change again without a trace.
_CLOCK_STEP = 2 * 10**9


@dataclasses.dataclass(frozen=True)
class ClassFolder:
    """One class of a split.

    Attributes:
        stamp: Time of the folder's last change in nanoseconds, and its size.
        files: Names of its images, sorted.
        others: Names of all else in it, sorted: no images by their names, or folders.
    """

    stamp: tuple[int, int]
    files: tuple[str, ...]
    others: tuple[str, ...] = ()


def find_splits(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folder of each split that `root` has.

    Raises:
        ValueError: if `root` is no folder or has no "train" in it.
    """
    if not root.is_dir():
        raise ValueError(f"`data_dir` must be an existing folder. Received: data_dir={str(root)!r}")
    splits = {split: root / name for split, name in SPLIT_FOLDERS.items() if (root / name).is_dir()}
    if "train" not in splits:
        raise ValueError(
            f"`data_dir` must have a folder 'train', and may have 'val' and 'test', each a folder "
            f"of class folders. Received: data_dir={str(root)!r}"
        )
    return splits


def scan_split(folder: pathlib.Path) -> dict[str, ClassFolder]:
    """Lists the class folders of a split, sorted by name."""
    return {path.name: _scan_class(path) for path in _class_paths(folder)}


def index_folder(
    root: pathlib.Path, cache_dir: pathlib.Path | None = None
) -> dict[str, dict[str, tuple[str, ...]]]:
    """The images of each class of each split, listed once and then read from a cache.

    Args:
        root: Folder of `train/` and others.
        cache_dir: Where to keep the list; None to list the folder each time. A kept list holds
            while no class folder, by time and size, has changed.

    Returns:
        split -> class -> names of its images, all sorted.

    Raises:
        ValueError: if there is no training folder, a class folder has no image, or a class of
            another split is not in "train".
    """
    splits = find_splits(root)
    if cache_dir is None:
        index = {split: scan_split(folder) for split, folder in splits.items()}
    else:
        digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        cache = cache_dir / f"index-{digest}.json"
        kept = _read_index(cache, splits)
        if kept is None:
            index = {split: scan_split(folder) for split, folder in splits.items()}
            _write_index(cache, index)
        else:
            index = kept
    _check_classes(splits, index)
    return {
        split: {name: folder.files for name, folder in classes.items()}
        for split, classes in index.items()
    }


class FolderSource:
    """The images of one split, class by class.

    Args:
        folder: Folder of class folders.
        files: For each class the names of its images.
        class_names: All classes; positions in it are the labels.
    """

    def __init__(
        self, folder: pathlib.Path, files: Mapping[str, tuple[str, ...]], class_names: list[str]
    ):
        numbers = {name: number for number, name in enumerate(class_names)}
        self._paths = [f"{folder}/{name}/{file}" for name in files for file in files[name]]
        self._labels = [numbers[name] for name in files for _ in files[name]]

    def __len__(self) -> int:
        return len(self._paths)

    @functools.cached_property
    def _tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        # Asked for while a graph is built, but made outside it, since all graphs share them.
        with tf.init_scope(), tf.device("/cpu:0"):
            # Names need not be UTF-8.
            paths = tf.constant([os.fsencode(path) for path in self._paths])
            return paths, tf.constant(self._labels, tf.int32)

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        paths, labels = self._tensors
        return tf.io.read_file(paths[index]), labels[index]

    def locate(self, index: int) -> str:
        return self._paths[index]


def load_folder(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    max_bad_files: int | None = 100,
    **views: Any,
) -> EncodedDataset:
    """A folder of `train/`, `val/` and `test/`, each a folder of class folders of images.

    Args:
        data_dir: The folder; `train/` is required.
        cache_dir: Where to keep the list of files, so that the folder is listed once; None to
            list it each time.
        max_bad_files: Distinct bad images to go on after with a warning each; None for no limit.
        **views: Attributes of `Views`: `image_size` (224), `channels` (3), `crop` ("scale" or
            "inception"), `resize_range`, `eval_resize`, `flip` (True), `lighting` (0.1).

    Returns:
        The data set; its mean and standard deviation are estimated from 1024 training images.

    Raises:
        ValueError: if the folder is not as said above, a class folder has no image, or an option
            is out of range.
    """
    if data_dir is None:
        raise ValueError("`data_dir` must be the folder to read. Received: data_dir=None")
    root = pathlib.Path(data_dir)
    options = Views(**views)
    index = index_folder(root, None if cache_dir is None else pathlib.Path(cache_dir))
    class_names = list(index["train"])
    sources = {
        split: FolderSource(folder, index[split], class_names)
        for split, folder in find_splits(root).items()
    }
    return EncodedDataset(
        root.resolve().name, sources, class_names, options, max_bad_files=max_bad_files
    )


def _class_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _stamp(folder: pathlib.Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_mtime_ns, status.st_size


def _scan_class(folder: pathlib.Path) -> ClassFolder:
    # The stamp is taken first: a file that comes while we look makes the list out of date.
    stamp = _stamp(folder)
    files: list[str] = []
    others: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            image = os.path.splitext(entry.name)[1].lower() in FORMATS and not entry.is_dir()
            (files if image else others).append(entry.name)
    return ClassFolder(stamp, tuple(sorted(files)), tuple(sorted(others)))


def _check_classes(
    splits: Mapping[str, pathlib.Path], index: Mapping[str, Mapping[str, ClassFolder]]
) -> None:
    for split, folder in splits.items():
        if not index[split]:
            raise ValueError(
                "`data_dir` must have class folders in every split. "
                f"Received: {folder}, without any"
            )
        for name, classes in index[split].items():
            if not classes.files:
                raise ValueError(
                    f"`data_dir` must have images ({', '.join(FORMATS)}) in every class folder. "
                    f"Received: {folder / name}, without any"
                )
            if name not in index["train"]:
                raise ValueError(
                    f"`data_dir` must have the classes of {folder.name!r} in 'train' too. "
                    f"Received: {folder / name}"
                )


def _write_index(path: pathlib.Path, index: Mapping[str, Mapping[str, ClassFolder]]) -> None:
    newest = max(
        (folder.stamp[0] for classes in index.values() for folder in classes.values()), default=0
    )
    if newest > time.time_ns() - _CLOCK_STEP:
        return
    content = {
        split: {name: [folder.stamp, folder.files] for name, folder in classes.items()}
        for split, classes in index.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps({"version": _INDEX_VERSION, "splits": content}))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_index(
    path: pathlib.Path, splits: Mapping[str, pathlib.Path]
) -> dict[str, dict[str, ClassFolder]] | None:
    """The kept index, or None if there is none, it cannot be trusted, or the folder changed."""
    try:
        content = json.loads(path.read_text())
        if content["version"] != _INDEX_VERSION:
            return None
        index = {
            split: {
                name: ClassFolder((int(stamp[0]), int(stamp[1])), tuple(map(str, files)))
                for name, (stamp, files) in classes.items()
            }
            for split, classes in content["splits"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    now = {
        split: {path.name: _stamp(path) for path in _class_paths(folder)}
        for split, folder in splits.items()
    }
    kept = {
        split: {name: c.stamp for name, c in classes.items()} for split, classes in index.items()
    }
    return index if kept == now else None
