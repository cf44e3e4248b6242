"""Finds the faults of a folder of images. Needs TensorFlow."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import importlib
import os
import pathlib
from typing import Any

from keras_resnet.data.decoding import FORMATS, decoding_fault
from keras_resnet.data.files import missing_shares, split_by_hash
from keras_resnet.data.folder import (
    class_faults,
    find_splits,
    names_and_labels,
    nested_files,
    scan_split,
)
from keras_resnet.data.image_files import image_format, is_16_bit, is_cmyk
from keras_resnet.utils.escapes import is_line

# How training handles each fault.
FAULTS = {
    "zero-byte": "skipped with a warning",
    "truncated": "skipped with a warning",
    "unreadable": "skipped with a warning",
    "too large": "skipped with a warning",
    "damaged": "read as far as the decoder gets; the rest may be gray",
    "mislabeled": "decoded by its content, not its name",
    "cmyk": "converted to RGB",
    "16-bit": "reduced to 8 bits",
    "not an image": "not read",
    "empty split": "an error before training starts",
    "empty class": "an error before training starts",
    "unknown class": "an error before training starts",
    "name of a class": "an error before training starts",
    "one class": "an error before training starts",
}

_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault of a file or folder.

    Attributes:
        fault: Kind of the fault, a key of `FAULTS`.
        path: The file or class folder, relative to the checked folder.
        detail: Further explanation, or an empty string.
    """

    fault: str
    path: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class DataReport:
    """Result of `check_data`.

    Attributes:
        folder: The checked folder.
        num_images: Number of images in each split, bad ones included; where the folder is not
            split, as `load_dataset` splits it by default.
        findings: All faults, in the order of the paths.
        unsearched: Number of JPEGs in which damage inside was not looked for, since simplejpeg is
            not installed.
    """

    folder: str
    num_images: dict[str, int]
    findings: tuple[Finding, ...]
    unsearched: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind of fault that was found."""
        counts = collections.Counter(finding.fault for finding in self.findings)
        return {fault: counts[fault] for fault in FAULTS if counts[fault]}


def check_data(folder: str | os.PathLike[str], workers: int | None = None) -> DataReport:
    """Reads and decodes every image of a folder as `load_dataset("folder", ...)` takes.

    Finds files that are empty ("zero-byte"), end too early ("truncated"), have more than 100
    million pixels ("too large") or cannot be read or decoded for another reason ("unreadable");
    with the extra `data`, JPEGs that are read in spite of damage inside ("damaged"); images of
    another format than their suffix says ("mislabeled"), CMYK JPEGs ("cmyk") and PNGs of 16 bits
    per channel ("16-bit"); files of a class folder without the suffix of an image ("not an image"),
    except hidden ones, with the number of files in folders there; splits without class folders
    ("empty split"), class folders without images ("empty class"), and those of `val/` and `test/`
    that `train/` does not have ("unknown class"); names that are not one line in UTF-8 ("name of a
    class"), and a single class.

    Args:
        folder: The folder that `load_dataset("folder", folder)` would read.
        workers: Number of files to read in parallel; None for the number of processors.

    Returns:
        The report; a file may appear in it more than once.

    Raises:
        ValueError: If the folder does not exist, or has neither `train/` nor class folders.
    """
    root = pathlib.Path(folder)
    folders = find_splits(root)
    splits = {split: scan_split(path) for split, path in folders.items()}
    images: list[pathlib.Path] = []
    files = {
        split: {name: content.files for name, content in classes.items()}
        for split, classes in splits.items()
    }
    findings = [
        Finding(fault.kind, str(fault.path), fault.detail) for fault in class_faults(folders, files)
    ]
    if len(splits["train"]) == 1:
        findings.append(Finding("one class", str(folders["train"])))
    for split, classes in splits.items():
        for name, content in classes.items():
            place = folders[split] / name
            images += [place / file for file in content.files]
            for path in (place / other for other in content.others):
                inside = f"folder of {nested_files(path)} files" if path.is_dir() else ""
                findings.append(Finding("not an image", str(path), inside))
            if not is_line(name):
                findings.append(Finding("name of a class", str(place), "not one line in UTF-8"))
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        # In chunks, since `map` submits all its arguments immediately.
        for start in range(0, len(images), _CHUNK):
            for found in pool.map(_check_image, images[start : start + _CHUNK]):
                findings += found
    relative = [dataclasses.replace(f, path=os.path.relpath(f.path, root)) for f in findings]
    sizes = {
        split: sum(len(c.files) for c in classes.values()) for split, classes in splits.items()
    }
    if shares := missing_shares(folders):
        drawn = split_by_hash(*names_and_labels(files["train"], list(files["train"])), shares)
        sizes = {split: len(rows) for split, rows in drawn.items()}
    ordered = sorted(relative, key=lambda finding: (finding.path, finding.fault))
    jpegs = sum(FORMATS[path.suffix.lower()] == "JPEG" for path in images)
    return DataReport(str(root), sizes, tuple(ordered), 0 if _strict_decoder() else jpegs)


def _check_image(path: pathlib.Path) -> list[Finding]:
    try:
        data = path.read_bytes()
    except OSError as error:
        return [Finding("unreadable", str(path), error.strerror or "")]
    findings = []
    actual, named = image_format(data), FORMATS[path.suffix.lower()]
    if actual not in (None, named):
        findings.append(Finding("mislabeled", str(path), f"{actual}, not {named}"))
    conversions = {"cmyk": is_cmyk, "16-bit": is_16_bit}
    fault = decoding_fault(data)
    faults = [fault] if fault else [name for name, found in conversions.items() if found(data)]
    findings += [Finding(name, str(path)) for name in faults]
    if actual == "JPEG" and not fault and (warning := _warning(data)):
        findings.append(Finding("damaged", str(path), warning))
    return findings


def _warning(data: bytes) -> str | None:
    """Returns what libjpeg warns of in a JPEG that it reads, such as rows that end too early."""
    try:
        if decoder := _strict_decoder():
            # All of it is read, but few pixels are computed.
            decoder.decode_jpeg(data, "GRAY", min_factor=8, strict=True)
    except ValueError as error:
        # Other warnings and errors are of kinds that it does not support.
        if str(error).startswith("Corrupt JPEG data"):
            return str(error)
    return None


@functools.cache
def _strict_decoder() -> Any:
    """Returns the module of the decoder that has warnings as errors, or None without the extra."""
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None
