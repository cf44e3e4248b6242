"""Reads a data set through and lists what is wrong with it. Needs TensorFlow."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import pathlib

from keras_resnet.data.decoding import FORMATS, decoding_fault, image_format, is_cmyk
from keras_resnet.data.folder import find_splits, scan_split

# Kind of finding: what training does about it.
FAULTS = {
    "zero-byte": "left out with a warning",
    "truncated": "left out with a warning",
    "unreadable": "left out with a warning",
    "mislabelled": "read by its bytes, whatever its name",
    "cmyk": "converted to RGB",
    "not an image": "not read",
    "empty class": "refused before training starts",
    "unknown class": "refused before training starts",
}

_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        fault: Its kind, a key of `FAULTS`.
        path: The file or class folder, relative to the checked folder.
        detail: More about it, or an empty string.
    """

    fault: str
    path: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class DataReport:
    """What `check_data` found.

    Attributes:
        folder: The checked folder.
        num_images: Number of images in each split, bad ones included.
        findings: All that is wrong, in the order of the paths.
    """

    folder: str
    num_images: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of fault was found, those that were not left out."""
        counts = collections.Counter(finding.fault for finding in self.findings)
        return {fault: counts[fault] for fault in FAULTS if counts[fault]}


def check_data(folder: str | os.PathLike[str], workers: int | None = None) -> DataReport:
    """Reads and decodes every image of a folder of `train/`, `val/` and `test/`.

    Finds files that are empty ("zero-byte"), end too early ("truncated") or cannot be read or
    decoded for another reason ("unreadable"); images of another format than their name says
    ("mislabelled") and CMYK JPEGs ("cmyk"); what lies in a class folder without the name of an
    image ("not an image"); class folders without images ("empty class"), and those of `val/` and
    `test/` that `train/` does not have ("unknown class").

    Args:
        folder: The folder that `load_dataset("folder", folder)` would read.
        workers: Files to read at a time; None for as many as there are processors.

    Returns:
        The report; a file may appear in it more than once.

    Raises:
        ValueError: if the folder does not exist or has no `train/`.
    """
    root = pathlib.Path(folder)
    splits = {split: (path, scan_split(path)) for split, path in find_splits(root).items()}
    trained = splits["train"][1]
    images, findings = [], []
    for path, classes in splits.values():
        for name, content in classes.items():
            place = path / name
            images += [place / file for file in content.files]
            findings += [Finding("not an image", str(place / other)) for other in content.others]
            if not content.files:
                findings.append(Finding("empty class", str(place)))
            if name not in trained:
                findings.append(Finding("unknown class", str(place), f"not in {root / 'train'}"))
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        # In pieces, since `map` submits all it is given at once.
        for start in range(0, len(images), _AT_ONCE):
            for found in pool.map(_check_image, images[start : start + _AT_ONCE]):
                findings += found
    relative = [dataclasses.replace(f, path=os.path.relpath(f.path, root)) for f in findings]
    return DataReport(
        folder=str(root),
        num_images={
            split: sum(len(content.files) for content in classes.values())
            for split, (_, classes) in splits.items()
        },
        findings=tuple(sorted(relative, key=lambda finding: (finding.path, finding.fault))),
    )


def _check_image(path: pathlib.Path) -> list[Finding]:
    try:
        data = path.read_bytes()
    except OSError as error:
        return [Finding("unreadable", str(path), error.strerror or "")]
    findings = []
    actual, promised = image_format(data), FORMATS[path.suffix.lower()]
    if actual not in (None, promised):
        findings.append(Finding("mislabelled", str(path), f"{actual}, not {promised}"))
    fault = decoding_fault(data)
    if fault is not None:
        findings.append(Finding(fault, str(path)))
    elif is_cmyk(data):
        findings.append(Finding("cmyk", str(path)))
    return findings
