"""The section of a page that is about its data. Needs TensorFlow."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet.data import EncodedDataset, ImageDataset
from keras_resnet.data.check import DataReport
from keras_resnet.evaluation import LabelCandidate, overview_of
from keras_resnet.evaluation.overview import size_rows
from keras_resnet.experiment import pictures
from keras_resnet.experiment.factories import make_transform
from keras_resnet.experiment.page_tables import Percent, Table, present, table_of
from keras_resnet.experiment.sections import Section
from keras_resnet.training.balance import class_counts
from keras_resnet.utils.remote import is_remote

TRAINING_IMAGES = 24
# Findings that are listed; their kinds are counted in any case.
LISTED = 200
# Images of records, all of which are read for their classes.
_COUNTED = 100_000


def data_section(
    dataset: ImageDataset | None,
    check: DataReport | None,
    wrong_labels: Sequence[LabelCandidate],
    settings: Mapping[str, Any],
) -> Section:
    """Returns the classes, sizes and faults of the data, and with settings a training batch.

    Of a data set that is what is known without reading all of it, of a check what was found.
    """
    tables: list[Table | None] = []
    texts: list[str] = []
    batch: list[pictures.Picture] = []
    changed = ""
    doubtful: list[pictures.Picture] = []
    if dataset is not None:
        texts, tables = _of_dataset(dataset, settings)
        # Without the settings of a run nothing was trained, and drawing a batch takes seconds.
        if settings and pictures.has_pictures(dataset):
            seed, transform = settings.get("seed", 0), make_transform(settings, dataset)
            sampling = settings.get("sampling")
            batch = pictures.training_batch(dataset, TRAINING_IMAGES, seed, transform, sampling)
            changed = "augmented at random"
            if sampling is not None:
                changed = f"drawn by {sampling} sampling, {changed}"
            if transform is not None and transform.mixers:
                changed += ", and mixed with each other, with the share of each class"
    if check is not None:
        own, more, doubtful = _of_check(check, wrong_labels)
        texts = [*(texts or [f"{check.folder}: {_listed(check.num_images)} images."]), *own]
        tables += more
    return Section(
        "Data",
        (),
        present(*tables),
        batch=batch,
        changed=changed,
        doubtful=doubtful,
        text=" ".join(texts),
    )


def _of_dataset(
    dataset: ImageDataset, settings: Mapping[str, Any]
) -> tuple[list[str], list[Table | None]]:
    shape = "x".join(map(str, dataset.image_shape))
    texts = [f"{dataset.name}: {_listed(dataset.sizes)} images, {shape} as the network takes them."]
    tables: list[Table | None] = []
    if dataset.reads_labels and sum(dataset.sizes.values()) > _COUNTED:
        texts.append("Images of each class are not counted, since all would be read for that.")
    else:
        names = dataset.class_names
        counts = {
            split: class_counts(dataset.labels(split), len(names)) for split in dataset.splits
        }
        train = counts["train"]
        ends = [f"{train[i]:,} ({names[i]})" for i in (train.argmin(), train.argmax())]
        texts.append(f"Of a class there are from {ends[0]} to {ends[1]} training images.")
        by_class = [
            {"class": name, **{split: int(own[i]) for split, own in counts.items()}}
            for i, name in enumerate(names)
        ]
        tables.append(table_of("Images of each class", by_class))
    if not isinstance(dataset, EncodedDataset):
        return texts, tables
    shorter = [min(size) for size in dataset.stored_sizes("train")]
    if shorter:
        rows = [row for row in size_rows(shorter) if row["images"]]
        tables.append(table_of(f"Shorter sides in pixels, of {len(shorter)} training images", rows))
        texts.append(f"Shorter sides have {min(shorter):,} to {max(shorter):,} pixels.")
    bad = dataset.bad_images.found
    texts.append(f"Skipped, since they cannot be read: {len(bad):,} of the images that were read.")
    rows = [{"path": path, "fault": fault} for path, fault in list(bad.items())[:LISTED]]
    tables.append(table_of(f"{_beginning(bad)}images that cannot be read", rows))
    folder = str(settings.get("data_dir") or "")
    if settings.get("dataset") == "folder" and folder and not is_remote(folder):
        texts.append(
            f"keras-resnet check-data {shlex.quote(folder)} reads all files, and finds damage, "
            "duplicates, leaks between the splits and, with --labels, labels that are likely wrong."
        )
    return texts, tables


def _of_check(
    check: DataReport, wrong_labels: Sequence[LabelCandidate]
) -> tuple[list[str], list[Table | None], list[pictures.Picture]]:
    overview = overview_of(check, wrong_labels)
    found = [
        {"path": one.path, "fault": one.fault, "detail": one.detail}
        for one in check.findings[:LISTED]
    ]
    suspects = [
        {
            "file": os.path.relpath(one.path, check.folder),
            "given label": one.given,
            "suggested label": one.likely,
            "probability %": Percent(100 * one.confidence),
            "of the given label %": Percent(100 * one.given_confidence),
        }
        for one in wrong_labels[:LISTED]
    ]
    tables = [
        table_of(f"{_beginning(wrong_labels)}images whose label is likely wrong", suspects),
        table_of("Faults and notes", overview.faults),
        table_of(f"{_beginning(check.findings)}files and folders with faults", found),
        table_of("Classes", overview.classes),
        table_of("Shorter sides in pixels", overview.sizes),
    ]
    doubtful = [
        pictures.Picture(one.uri, f"{one.path}: {pair.fault}", f"{pair.fault}: {one.path}")
        for pair in overview.duplicates
        for one in (pair.original, pair.copy)
    ]
    doubtful += [
        pictures.Picture(
            one.image.uri,
            f"{one.image.path}: labeled {one.given}, likely {one.likely}",
            f"{one.given}, likely {one.likely} ({100 * one.confidence:.0f} %)",
        )
        for one in overview.labels
    ]
    texts = [] if found else ["Nothing is wrong with the files."]
    return texts, tables, doubtful


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{size:,} {split}" for split, size in sizes.items())


def _beginning(all_of_them: Sequence | Mapping) -> str:
    """Returns the beginning of the caption of a table of up to `LISTED` rows."""
    count = len(all_of_them)
    return f"The first {LISTED} of {count:,} " if count > LISTED else f"{count} "
