"""Images that a CSV file lists, with one label or several each. Needs TensorFlow."""

from __future__ import annotations

import csv
import os
import pathlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np

from keras_resnet.data.decoding import formats_of
from keras_resnet.data.depth import checked_channels, kept_bits
from keras_resnet.data.encoded import EncodedDataset
from keras_resnet.data.files import FileSource, divided, missing_shares
from keras_resnet.data.folder import SPLIT_NAMES
from keras_resnet.data.transforms import Transforms
from keras_resnet.utils.escapes import is_line, visible

# Between the labels of one image.
_SEPARATOR = "|"


class _Row(NamedTuple):
    """Line, name of an image, its labels, and its split ("" without such a column)."""

    line: int
    name: str
    labels: tuple[str, ...]
    split: str


def load_csv(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    max_bad_files: int | None = 100,
    val_split: float | None = None,
    test_split: float | None = None,
    **transforms: Any,
) -> EncodedDataset:
    """Returns a data set of the images that a CSV file lists.

    Its first line names the columns: `path`, relative to the file's folder, `label`, and optionally
    `split` (train, val or test); others are not read. If a label has `|` in it, images may have
    several labels, or none where it is empty. Classes are the labels in the order of their names.
    Without the column, or for splits that it does not name, images are split by a hash of their
    paths as those of a folder are, class by class if they have one label each.

    Args:
        data_dir: The file, or a folder with a single file of the suffix .csv; UTF-8, separated by
            commas.
        max_bad_files: As in `EncodedDataset`.
        val_split: As in `load_folder`.
        test_split: As in `load_folder`.
        **transforms: Attributes of `Transforms`, as for `load_folder`.

    Raises:
        ValueError: If there is no such file, a value in it is wrong (with row and column), or an
            option is out of range.
    """
    options = Transforms(**transforms)
    path = _find_table(data_dir)
    rows = list(_rows(path, formats_of(options.channels)))
    multi_label = any(len(row.labels) > 1 for row in rows)
    for row in rows if not multi_label else ():
        if not row.labels:
            _refuse(path, row.line, "label", "", "the name of a class")
    class_names = sorted({label for row in rows for label in row.labels})
    numbers = {name: number for number, name in enumerate(class_names)}
    if multi_label:
        labels = np.zeros((len(rows), len(class_names)), np.float32)
        for number, row in enumerate(rows):
            labels[number, [numbers[label] for label in row.labels]] = 1.0
    else:
        labels = np.array([numbers[row.labels[0]] for row in rows], np.int32)
    everything = FileSource(path.parent, [row.name for row in rows], labels)
    given = np.array([row.split or "train" for row in rows])
    sources = {
        str(split): everything.select(np.flatnonzero(given == split)) for split in set(given)
    }
    if "train" not in sources:
        raise ValueError(
            "`data_dir` must be a CSV file with training images. "
            f"Received: {str(path)!r} with {', '.join(sorted(sources)) or 'no rows'}"
        )
    checked_channels(sources, options.channels)
    if "bits" not in transforms:
        options = kept_bits(options, sources["train"])
    if shares := missing_shares(sources, val_split, test_split):
        train = sources["train"]
        sources |= divided(train, shares, None if multi_label else train.labels())
    return EncodedDataset(
        *(path.stem, sources, class_names, options),
        max_bad_files=max_bad_files,
        multi_label=multi_label,
    )


def _find_table(data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    if data_dir is None:
        raise ValueError("`data_dir` must be the CSV file to read. Received: data_dir=None")
    path = pathlib.Path(data_dir)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() == ".csv" and p.is_file())
        if len(found) != 1:
            raise ValueError(
                "`data_dir` must be a CSV file, or a folder with a single one. "
                f"Received: data_dir={str(path)!r} with {[p.name for p in found]}"
            )
        return found[0]
    if not path.is_file():
        raise ValueError(
            f"`data_dir` must be an existing CSV file. Received: data_dir={str(path)!r}"
        )
    return path


def _rows(path: pathlib.Path, formats: Collection[str]) -> Iterator[_Row]:
    """Yields the rows of a file; raises a ValueError that names the row, counted as lines."""
    lines: dict[str, int] = {}
    try:
        # Excel begins UTF-8 with a mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file, strict=True)
            columns = [title.strip().lower() for title in next(table, [])]
            for title in ("path", "label"):
                if columns.count(title) != 1:
                    raise ValueError(
                        "`data_dir` must be a CSV file whose first line names the columns path, "
                        f"label and, if wanted, split. Received: {str(path)!r} with {columns}"
                    )
            for values in table:
                if values:
                    if len(values) != len(columns):
                        raise ValueError(
                            "`data_dir` must be a CSV file whose rows have a cell for each column; "
                            "one with a comma inside needs quotes. Received: "
                            f"{len(values)} cells for {len(columns)} columns in row "
                            f"{table.line_num} of {path.name}"
                        )
                    named = dict(zip(columns, values, strict=True))
                    row = _row(path, table.line_num, named, formats)
                    first = lines.setdefault(row.name, row.line)
                    if first != row.line:
                        _refuse(path, row.line, "path", row.name, f"another than in row {first}")
                    yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"`data_dir` must be a CSV file in UTF-8. Received: {str(path)!r} ({error})"
        ) from None


def _row(path: pathlib.Path, line: int, values: dict[str, str], formats: Collection[str]) -> _Row:
    values = {title: text.strip() for title, text in values.items()}
    name = values["path"]
    if pathlib.PurePath(name).suffix.lower() not in formats or not is_line(name):
        _refuse(path, line, "path", name, f"the name of an image ({', '.join(formats)})")
    labels = tuple(dict.fromkeys(label.strip() for label in values["label"].split(_SEPARATOR)))
    if labels == ("",):
        labels = ()
    if "" in labels:
        _refuse(path, line, "label", values["label"], f"names with {_SEPARATOR} in between")
    split = values.get("split", "")
    if "split" in values:
        if split.lower() not in SPLIT_NAMES:
            _refuse(path, line, "split", split, "train, val or test")
        split = SPLIT_NAMES[split.lower()]
    return _Row(line, name, labels, split)


def _refuse(path: pathlib.Path, line: int, column: str, value: str, expected: str) -> NoReturn:
    raise ValueError(
        f"`data_dir` must be a CSV file with good values: `{column}` in row {line} of {path.name} "
        f"must be {expected}. Received: {column}={visible(value)!r}"
    )
