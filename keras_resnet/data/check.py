"""Finds the faults of a folder of images. Needs TensorFlow."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import importlib
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keras_resnet.data.decoding import ARRAYS, FORMATS, decoding_fault, formats_of
from keras_resnet.data.duplicates import Fingerprint, find_pairs, fingerprint
from keras_resnet.data.files import missing_shares, split_by_hash
from keras_resnet.data.folder import (
    ClassFolder,
    class_faults,
    find_splits,
    names_and_labels,
    nested_files,
    scan_split,
)
from keras_resnet.data.image_files import image_format, is_16_bit, is_cmyk
from keras_resnet.data.npy import IMAGE_CHANNELS, npy_shape
from keras_resnet.data.traits import Facts, shown_size, traits_of
from keras_resnet.utils import checks
from keras_resnet.utils.checks import Size, checked_size
from keras_resnet.utils.escapes import is_line
from keras_resnet.utils.tables import write_table

# How training handles each fault.
FAULTS = {
    "zero-byte": "skipped with a warning",
    "truncated": "skipped with a warning",
    "unreadable": "skipped with a warning",
    "too large": "skipped with a warning",
    "damaged": "read as far as the decoder gets; the rest may be gray",
    "other array": "skipped with a warning",
    "mislabeled": "decoded by its content, not its name",
    "cmyk": "converted to RGB",
    "16-bit": "reduced to 8 bits, unless most of the training images are such",
    "not an image": "not read",
    "empty split": "an error before training starts",
    "empty class": "an error before training starts",
    "unknown class": "an error before training starts",
    "name of a class": "an error before training starts",
    "one class": "an error before training starts",
    "leak": "the figures of its split come out too good",
    "two classes": "one of the two labels is wrong",
    "duplicate": "counts twice",
}

# How training handles what is no fault.
NOTES = {
    "few images": "a class is hardly learned from so few",
    "turned": "turned upright",
    "palette": "converted to RGB",
    "transparent": "composited over white",
    "animated": "its first frame is read",
    "strip": "most of it is outside of the center",
    "small": "enlarged",
}

# Number of training images, below which a class has few.
FEW = 5
# Faults that stop training, or spoil what is measured.
_ERRORS = {"leak"} | {fault for fault, handling in FAULTS.items() if "an error" in handling}

_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault of a file or folder, or a note on it.

    Attributes:
        fault: Kind of the fault, a key of `FAULTS`, or of the note, a key of `NOTES`.
        path: The file or class folder, relative to the checked folder.
        detail: Further explanation, or an empty string.
    """

    fault: str
    path: str
    detail: str = ""

    @property
    def severity(self) -> str:
        """One of "error" (training stops, or figures are wrong), "warning", "information"."""
        if self.fault in NOTES:
            return "information"
        return "error" if self.fault in _ERRORS else "warning"


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """A file that has the same picture as another.

    Attributes:
        fault: "leak" (the files are in different splits), "two classes" or "duplicate".
        path: The file, relative to the checked folder.
        original: The other file; of a leak from training the training image.
        correlation: Between both in gray, up to 1; None where the files have the same bytes.
    """

    fault: str
    path: str
    original: str
    correlation: float | None = None

    @property
    def finding(self) -> Finding:
        if self.correlation is None:
            return Finding(self.fault, self.path, f"same bytes as {self.original}")
        # Rounded down, since 1 would be the same pixels.
        alike = math.floor(1000 * self.correlation) / 1000
        return Finding(self.fault, self.path, f"{alike:.3f} like {self.original}")


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
        notes: What is special and no fault, in the order of the paths.
        duplicates: The pairs behind the findings "leak", "two classes" and "duplicate".
        images: The images that can be read.
        channels: Channels of the images, which are `.npy` files unless it is 1, 3 or 4.
    """

    folder: str
    num_images: dict[str, int]
    findings: tuple[Finding, ...]
    unsearched: int = 0
    notes: tuple[Finding, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    images: tuple[Facts, ...] = ()
    channels: int = 3

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind of fault that was found."""
        counts = collections.Counter(finding.fault for finding in self.findings)
        return {fault: counts[fault] for fault in FAULTS if counts[fault]}

    @property
    def note_counts(self) -> dict[str, int]:
        """Number of notes of each kind."""
        counts = collections.Counter(note.fault for note in self.notes)
        return {kind: counts[kind] for kind in NOTES if counts[kind]}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes findings and notes atomically as a table: severity, kind, path, detail.

        The path ends in .csv, .json or .parquet.
        """
        rows = [
            {"severity": one.severity, "kind": one.fault, "path": one.path, "detail": one.detail}
            for one in (*self.findings, *self.notes)
        ]
        write_table(pathlib.Path(path), rows, ("severity", "kind", "path", "detail"))


class _Image(NamedTuple):
    """A file to check, and what was found."""

    path: pathlib.Path
    split: str
    label: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    size: tuple[int, int] | None = None
    fingerprint: Fingerprint | None = None


def check_data(
    folder: str | os.PathLike[str],
    workers: int | None = None,
    *,
    duplicates: bool = False,
    image_size: Size | str | None = None,
    channels: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Reads and decodes every image of a folder as `load_dataset("folder", ...)` takes.

    Finds files that are empty ("zero-byte"), end too early ("truncated"), have more than 100
    million pixels ("too large") or cannot be read or decoded for another reason ("unreadable");
    `.npy` files of another type or shape, or that are not finite ("other array"); with the extra
    `data`, JPEGs that are read in spite of damage inside ("damaged"); images of another format than
    their suffix says ("mislabeled"), CMYK JPEGs ("cmyk") and PNGs of 16 bits per channel
    ("16-bit"); files of a class folder without the suffix of an image ("not an image"), except
    hidden ones, with the number of files in folders there; splits without class folders ("empty
    split"), class folders without images ("empty class"), and those of `val/` and `test/` that
    `train/` does not have ("unknown class"); names that are not one line in UTF-8 ("name of a
    class"), and a single class.

    With `duplicates`, pictures that appear twice, in files of the same bytes or re-encoded, resized
    or a little changed: in different splits ("leak"), in different classes of one ("two classes")
    or in one class ("duplicate"). Notes are not faults: classes of fewer than five training images
    ("few images"), images turned by EXIF ("turned"), of a palette ("palette"), with an alpha
    channel ("transparent"), of several frames ("animated"), longer than four times their shorter
    side ("strip"), and smaller than `image_size` on a side ("small").

    Args:
        folder: The folder that `load_dataset("folder", folder)` would read.
        workers: Number of files to read in parallel; None for the number of processors.
        duplicates: Whether to look for pictures that appear twice.
        image_size: Size of the images to train on, as for `Transforms` or as text such as
            "224x192"; None to note no small ones.
        channels: Those of the images to train on, which are `.npy` files unless it is 1, 3 or 4.
            None for image files or, without any, for `.npy` files like the first of them.
        progress: Called with the number of files done and in all; with `duplicates` again from 0
            on, while pictures that appear twice are looked for.

    Returns:
        The report; a file may appear in it more than once.

    Raises:
        ValueError: If the folder does not exist, or has neither `train/` nor class folders.
    """
    if image_size is not None:
        image_size = checked_size("image_size", image_size)
    root = pathlib.Path(folder)
    folders = find_splits(root)
    splits = {split: scan_split(path) for split, path in folders.items()}
    if channels is not None:
        checks.integer("channels", channels)
    else:
        channels = _array_channels(folders, splits)
    formats = formats_of(channels)
    if formats is not FORMATS:
        splits = {split: scan_split(path, formats) for split, path in folders.items()}
    images: list[_Image] = []
    files = {
        split: {name: content.files for name, content in classes.items()}
        for split, classes in splits.items()
    }
    findings = [
        Finding(fault.kind, str(fault.path), fault.detail)
        for fault in class_faults(folders, files, formats)
    ]
    if len(splits["train"]) == 1:
        findings.append(Finding("one class", str(folders["train"])))
    for split, classes in splits.items():
        for name, content in classes.items():
            place = folders[split] / name
            images += [_Image(place / file, split, name) for file in content.files]
            for path in (place / other for other in content.others):
                inside = f"folder of {nested_files(path)} files" if path.is_dir() else ""
                findings.append(Finding("not an image", str(path), inside))
            if not is_line(name):
                findings.append(Finding("name of a class", str(place), "not one line in UTF-8"))
    sizes = {split: sum(image.split == split for image in images) for split in splits}
    if shares := missing_shares(folders):
        # As loading splits them: copies that it parts are leaks.
        drawn = split_by_hash(*names_and_labels(files["train"], list(files["train"])), shares)
        train = [place for place, image in enumerate(images) if image.split == "train"]
        for split, rows in drawn.items():
            sizes[split] = len(rows)
            for place in (train[row] for row in rows):
                images[place] = images[place]._replace(split=split)
    check = functools.partial(
        _check_image, channels=channels, duplicates=duplicates, image_size=image_size
    )
    checked: list[_Image] = []
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        # In chunks, since `map` submits all its arguments immediately.
        for start in range(0, len(images), _CHUNK):
            for image in pool.map(check, images[start : start + _CHUNK]):
                checked.append(image)
                if progress is not None:
                    progress(len(checked), len(images))
    notes = [
        Finding("few images", str(folders["train"] / name), f"{len(content.files)}")
        for name, content in splits["train"].items()
        if 0 < len(content.files) < FEW
    ]
    findings += [finding for image in checked for finding in image.findings]
    notes += [note for image in checked for note in image.notes]
    pairs = _duplicates(root, checked, progress) if duplicates else []
    jpegs = sum(formats[image.path.suffix.lower()] == "JPEG" for image in images)
    return DataReport(
        str(root),
        sizes,
        _ordered([*_relative(root, findings), *(pair.finding for pair in pairs)]),
        0 if _strict_decoder() else jpegs,
        _ordered(_relative(root, notes)),
        tuple(pairs),
        tuple(
            Facts(os.path.relpath(image.path, root), image.split, image.label, *image.size)
            for image in checked
            if image.size
        ),
        channels,
    )


def _array_channels(
    folders: Mapping[str, pathlib.Path], splits: Mapping[str, Mapping[str, ClassFolder]]
) -> int:
    """Returns the channels of the first array where there are no image files, else 3."""
    if not any(content.files for classes in splits.values() for content in classes.values()):
        for split, classes in splits.items():
            for name, content in classes.items():
                for path in (folders[split] / name / other for other in content.others):
                    shape = npy_shape(path) if path.suffix.lower() in ARRAYS else ()
                    if len(shape) == 3 and shape[2] not in IMAGE_CHANNELS:
                        return shape[2]
    return 3


def _relative(root: pathlib.Path, findings: list[Finding]) -> list[Finding]:
    return [dataclasses.replace(f, path=os.path.relpath(f.path, root)) for f in findings]


def _ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (finding.path, finding.fault)))


def _duplicates(
    root: pathlib.Path, images: list[_Image], progress: Callable[[int, int], None] | None
) -> list[Duplicate]:
    """Returns the images that are copies of others, of those of training in the first place."""
    told = [(image, image.fingerprint) for image in images if image.fingerprint is not None]
    found = []
    for pair in find_pairs([one for _, one in told], progress):
        first, second = told[pair.first][0], told[pair.second][0]
        fault = "two classes" if first.label != second.label else "duplicate"
        fault = "leak" if first.split != second.split else fault
        path, original = (os.path.relpath(image.path, root) for image in (second, first))
        found.append(Duplicate(fault, path, original, pair.correlation))
    return found


def _check_image(image: _Image, channels: int, duplicates: bool, image_size: Size | None) -> _Image:
    path = str(image.path)
    try:
        data = image.path.read_bytes()
    except OSError as error:
        return image._replace(findings=(Finding("unreadable", path, error.strerror or ""),))
    findings = []
    actual, named = image_format(data), formats_of(channels)[image.path.suffix.lower()]
    if actual not in (None, named):
        findings.append(Finding("mislabeled", path, f"{actual}, not {named}"))
    if fault := decoding_fault(data, channels):
        kind = (fault, path) if fault in FAULTS else ("other array", path, fault)
        return image._replace(findings=(*findings, Finding(*kind)))
    conversions = {"cmyk": is_cmyk, "16-bit": is_16_bit}
    findings += [Finding(name, path) for name, found in conversions.items() if found(data)]
    if actual == "JPEG" and (warning := _warning(data)):
        findings.append(Finding("damaged", path, warning))
    size = shown_size(data)
    return image._replace(
        findings=tuple(findings),
        notes=tuple(
            Finding(kind, path, detail) for kind, detail in traits_of(data, size, image_size)
        ),
        size=size,
        fingerprint=fingerprint(data, channels) if duplicates else None,
    )


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
