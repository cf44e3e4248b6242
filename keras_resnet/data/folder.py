"""Image folders: `train/`, `val/` and `test/`, each a folder of class folders. Needs TensorFlow.

`val/` may be `validation/` or `valid/` too, and capitals make no difference. A split is the images
directly inside its class folders, recognized by their suffix. The classes are those of `train/`, in
the order of their names. A folder of class folders without any of these is the training images, and
the splits that a folder lacks are drawn from those.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import pathlib
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.data.dataset import SPLITS
from keras_resnet.data.decoding import FORMATS, formats_of, is_hidden, is_image_file
from keras_resnet.data.depth import checked_channels, kept_bits
from keras_resnet.data.encoded import EncodedDataset
from keras_resnet.data.files import FileSource, divided, missing_shares
from keras_resnet.data.transforms import Transforms
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import parse_json, write_text

# Names of the folders of splits, in small letters.
SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}

_INDEX_VERSION = 2
# Nanoseconds within which a folder may change twice and have the same time, on any file system.
_CLOCK_STEP = 2 * 10**9

# By split and class: names of images, and time and size of the class folder.
_Files = dict[str, dict[str, tuple[str, ...]]]
_Stamps = dict[str, dict[str, tuple[int, int]]]


class UnreadFilesWarning(UserWarning):
    """Warns of files in a folder of images that are no part of the data."""


class ClassFolder(NamedTuple):
    """Sorted names of the images of a class in a split, and of all else in its folder."""

    files: tuple[str, ...]
    others: tuple[str, ...]


def find_splits(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the folder of each split that `root` has, at least of "train".

    That is `root` itself, if it has class folders only.
    """
    if not root.is_dir():
        raise ValueError(f"`data_dir` must be an existing folder. Received: data_dir={str(root)!r}")
    found: dict[str, list[pathlib.Path]] = {split: [] for split in SPLITS}
    for path in sorted(root.iterdir()):
        if path.name.lower() in SPLIT_NAMES and path.is_dir():
            found[SPLIT_NAMES[path.name.lower()]].append(path)
    if not any(found.values()) and _class_paths(root):
        return {"train": root}
    if not found["train"] or max(map(len, found.values())) > 1:
        names = [path.name for paths in found.values() for path in paths]
        raise ValueError(
            "`data_dir` must have one folder 'train', and may have one 'val' and one 'test', each "
            "a folder of class folders, or be a folder of class folders. "
            f"Received: data_dir={str(root)!r} with {names}"
        )
    return {split: paths[0] for split, paths in found.items() if paths}


def scan_split(folder: pathlib.Path, formats: Collection[str] = FORMATS) -> dict[str, ClassFolder]:
    """Lists the class folders of a split, sorted by name."""
    return {path.name: _scan_class(path, formats) for path in _class_paths(folder)}


def index_folder(
    root: pathlib.Path,
    cache_dir: pathlib.Path | None = None,
    formats: Collection[str] = FORMATS,
) -> _Files:
    """Returns split -> class -> names of its images, files of these suffixes, all sorted.

    With `cache_dir`, the list is kept there, and valid as long as time and size of all class
    folders are unchanged. Raises a ValueError if there is no training folder, a class folder has no
    image, or a class of another split is not in "train".
    """
    splits = find_splits(root)
    # Taken before the scan, so that a file added meanwhile makes the list out of date.
    stamps = {split: _stamps(folder) for split, folder in splits.items()}
    files = cache = None
    if cache_dir is not None:
        digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        kind = "" if formats is FORMATS else "".join(formats)
        cache = cache_dir / f"index-{digest}{kind}.json"
        files = _read_index(cache, stamps)
    if files is None:
        content = {split: scan_split(folder, formats) for split, folder in splits.items()}
        files = {
            split: {name: found.files for name, found in classes.items()}
            for split, classes in content.items()
        }
        _warn_of_the_rest(root, splits, content, formats)
        if cache is not None:
            _write_index(cache, stamps, files)
    for fault in class_faults(splits, files, formats):
        raise ValueError(fault.line)
    return files


def load_folder(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    max_bad_files: int | None = 100,
    val_split: float | None = None,
    test_split: float | None = None,
    **transforms: Any,
) -> EncodedDataset:
    """Returns a data set of a folder of `train/`, `val/` and `test/` with class folders of images.

    A folder of class folders alone, or of `train/` alone, is split by a hash of the names
    CLASS/FILE. For other than 1, 3 and 4 `channels`, images are `.npy` files of arrays
    `(height, width, channels)`: uint8, uint16 (scaled to [0, 255]) or floats, as they are.

    Its mean and standard deviation are estimated from 1024 training images. When the folder is
    listed, an `UnreadFilesWarning` tells the number of files that are no part of the data.

    Args:
        data_dir: The folder.
        cache_dir: Where to keep the list of files; None to list the folder each time.
        max_bad_files: As in `EncodedDataset`.
        val_split: Share of the training images that becomes the validation split that is missing;
            None for 0.1 without `val/` and `test/`, and none with one of them.
        test_split: Share of the training images that becomes the test split, likewise.
        **transforms: Attributes of `Transforms`. `bits` is 16 by default where most of the training
            images, of some that are looked at, are PNGs of 16 bits.

    Raises:
        ValueError: If a folder or the images of a class are missing, or an option is out of range.
    """
    if data_dir is None:
        raise ValueError("`data_dir` must be the folder to read. Received: data_dir=None")
    root = pathlib.Path(data_dir)
    options = Transforms(**transforms)
    formats = formats_of(options.channels)
    index = index_folder(root, None if cache_dir is None else pathlib.Path(cache_dir), formats)
    folders, class_names = find_splits(root), list(index["train"])
    shares = missing_shares(folders, val_split, test_split)
    sources = {
        split: FileSource(folder, *names_and_labels(index[split], class_names))
        for split, folder in folders.items()
    }
    checked_channels(sources, options.channels)
    if "bits" not in transforms:
        options = kept_bits(options, sources["train"])
    if shares:
        sources |= divided(sources["train"], shares, sources["train"].labels())
    return EncodedDataset(
        root.resolve().name, sources, class_names, options, max_bad_files=max_bad_files
    )


def names_and_labels(
    files: Mapping[str, tuple[str, ...]], class_names: list[str]
) -> tuple[list[str], np.ndarray]:
    """Returns CLASS/FILE of the images of a split, and their positions in `class_names`."""
    numbers = {name: number for number, name in enumerate(class_names)}
    names = [f"{name}/{file}" for name in files for file in files[name]]
    labels = np.repeat([numbers[name] for name in files], [len(files[name]) for name in files])
    return names, labels.astype(np.int32)


def _class_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not is_hidden(p.name))


def _stamps(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    found = {path.name: path.stat() for path in _class_paths(folder)}
    return {name: (status.st_mtime_ns, status.st_size) for name, status in found.items()}


def _scan_class(folder: pathlib.Path, formats: Collection[str]) -> ClassFolder:
    files: list[str] = []
    others: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            image = is_image_file(entry.path, entry.is_file(follow_symlinks=False), formats)
            (files if image else others).append(entry.name)
    return ClassFolder(tuple(sorted(files)), tuple(sorted(others)))


def nested_files(folder: pathlib.Path) -> int:
    """Returns the number of files in a folder and those inside."""
    return sum(len(files) for _, _, files in os.walk(folder))


def _warn_of_the_rest(
    root: pathlib.Path,
    splits: Mapping[str, pathlib.Path],
    content: Mapping[str, Mapping[str, ClassFolder]],
    formats: Collection[str],
) -> None:
    """Warns of what is not read: how many files of which kind."""
    kinds: collections.Counter[str] = collections.Counter()
    for split, classes in content.items():
        for name, found in classes.items():
            for other in found.others:
                path = splits[split] / name / other
                if path.is_dir():
                    kinds["in folders inside of class folders"] += nested_files(path)
                else:
                    kinds[path.suffix.lower() or "without a suffix"] += 1
        beside = (path for path in splits[split].iterdir() if path.is_file())
        kinds["outside of class folders"] += sum(path.suffix.lower() in formats for path in beside)
    unread = [f"{count} {visible(kind)}" for kind, count in (+kinds).most_common()]
    flat = root in splits.values()
    folders = [] if flat else sorted(set(_class_paths(root)) - set(splits.values()))
    unread += [f"the folder {path.name!r}" for path in folders]
    if unread:
        warnings.warn(
            f"Files of {str(root)!r} that are not read: {', '.join(unread)}. Images are "
            f"{', '.join(formats)} directly in the class folders",
            UnreadFilesWarning,
            stacklevel=4,
        )


class ClassFault(NamedTuple):
    """Fault of a class folder, or of the folder of a split, and a line that tells it."""

    kind: str
    path: pathlib.Path
    detail: str
    line: str


def class_faults(
    splits: Mapping[str, pathlib.Path], files: _Files, formats: Collection[str] = FORMATS
) -> Iterator[ClassFault]:
    """Yields the faults of the folders that no training starts with."""
    for split, folder in splits.items():
        if not files[split]:
            yield ClassFault(
                *("empty split", folder, "without class folders"),
                "`data_dir` must have class folders in every split. "
                f"Received: {str(folder)!r}, without any",
            )
        for name, images in files[split].items():
            place = folder / name
            if not images:
                yield ClassFault(
                    *("empty class", place, ""),
                    f"`data_dir` must have images ({', '.join(formats)}) in every class folder. "
                    f"Received: {str(place)!r}, without any",
                )
            if name not in files["train"]:
                yield ClassFault(
                    *("unknown class", place, f"not in {splits['train']}"),
                    f"`data_dir` must have the classes of {folder.name!r} in 'train' too. "
                    f"Received: {str(place)!r}",
                )


def _write_index(path: pathlib.Path, stamps: _Stamps, files: _Files) -> None:
    newest = max((time for classes in stamps.values() for time, _ in classes.values()), default=0)
    if newest > time.time_ns() - _CLOCK_STEP:
        return
    content = {
        split: {name: [stamps[split].get(name), images] for name, images in classes.items()}
        for split, classes in files.items()
    }
    write_text(path, json.dumps({"version": _INDEX_VERSION, "splits": content}))


def _read_index(path: pathlib.Path, stamps: _Stamps) -> _Files | None:
    """Returns the kept list of files, or None if it is missing, invalid or out of date."""
    try:
        content = parse_json(path.read_text())
        kept, files = {}, {}
        for split, classes in content["splits"].items():
            kept[split] = {name: tuple(stamp) for name, (stamp, _) in classes.items()}
            files[split] = {name: tuple(map(str, images)) for name, (_, images) in classes.items()}
        return files if content["version"] == _INDEX_VERSION and kept == stamps else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
