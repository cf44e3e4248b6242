"""Reads all images of a folder, and lists what would stop or mislead training.

    keras-resnet check-data DIR

DIR holds train/, val/ and test/ of class folders. Listed are files that are empty, truncated,
unreadable, too large, damaged inside (JPEGs, with the extra `data`), CMYK, of 16 bits per channel,
of another format than their name says, or no images by their suffix; .npy files that are no image
of so many channels; class folders that are empty, not among the training classes, or whose name is
not one line in UTF-8; splits without class folders, and a single class. Duplicate pictures are
listed too, above all those in both training and test images. --labels MODEL adds images whose class
is likely wrong: the features of a trained model, or the pixels, of other images predict another
one. The exit code is 0 where nothing was found, else 1. --workdir is for tables and a page with the
pictures (report.html).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from tyro.conf import Positional

from keras_resnet import data, evaluation, experiment
from keras_resnet.cli import Arguments, parse, print_json
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.utils import checks
from keras_resnet.utils.escapes import visible


@dataclasses.dataclass(frozen=True)
class CheckData(Arguments):
    """Arguments of `keras-resnet check-data`.

    Attributes:
        folder: Folder of class folders of images, in train/, val/ and test/ or to be split.
        duplicates: Whether duplicate pictures are searched for.
        labels: Trained model whose features find wrong labels, or "pixels"; by default they are not
            searched for.
        image_size: Side of the training images in pixels, or HEIGHTxWIDTH, to list smaller
            pictures; by default none are listed.
        channels: Channels of the training images, which are .npy files unless they have 1, 3 or 4;
            by default those of the first .npy file where there are no image files.
        workdir: Folder for findings.csv, labels.csv and report.html; by default none is written.
        json: Print the findings as JSON.
    """

    folder: Positional[str]
    duplicates: bool = True
    labels: str | None = None
    image_size: str | None = None
    channels: int | None = None
    workdir: str | None = None
    json: bool = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Prints the faults of a folder, and exits with 1 if there are any."""
    given = parse(CheckData, argv, __doc__, prog)
    workdir = None if given.workdir is None else expect_folder("workdir", given.workdir)
    if workdir is not None:
        experiment.page.require_jinja()
    model = None
    if given.labels is not None:
        checks.import_extra("sklearn", "Likely wrong labels", "train")
        if given.labels != "pixels":
            model = evaluation.embeddings.features_of(given.labels)
            # A size that is not the model's is refused before all is read.
            evaluation.predictor.transforms_for(model, given.image_size, None)
    with evaluation.Progress() as progress:
        report = data.check_data(
            given.folder,
            duplicates=given.duplicates,
            image_size=given.image_size,
            channels=given.channels,
            progress=progress,
        )
    wrong: list[evaluation.LabelCandidate] = []
    failure: ValueError | OSError | None = None
    if given.labels is not None:
        try:
            wrong = evaluation.find_wrong_labels(
                given.folder, model, image_size=given.image_size, channels=report.channels
            )
        except (ValueError, OSError) as error:  # All that was found is told first.
            failure = error
    if workdir is not None:
        report.write(workdir / "findings.csv")
        if failure is None:
            evaluation.labels.write_candidates(workdir / "labels.csv", wrong)
        experiment.page.write_report(
            workdir, title=f"Images of {given.folder}", check=report, wrong_labels=wrong
        )
    if given.json:
        print_json(
            {
                "findings": [dataclasses.asdict(finding) for finding in report.findings],
                "wrong_labels": [dataclasses.asdict(one) for one in wrong],
                "num_images": report.num_images,
                "notes": dict(report.note_counts),
                "unsearched": report.unsearched,
            }
        )
    else:
        _show(report, wrong)
        if workdir is not None:
            print(f"Everything is in {workdir}: begin with {experiment.page.REPORT}")
    if failure is not None:
        raise failure
    sys.exit(1 if report.findings or wrong else 0)


def _show(report: data.DataReport, wrong: Sequence[evaluation.LabelCandidate]) -> None:
    for finding in report.findings:
        detail = finding.detail and f" ({visible(finding.detail)})"
        print(f"{visible(finding.path)}: {finding.fault}{detail}")
    for one in wrong:
        classes = f"{visible(one.given)}, likely {visible(one.likely)}"
        print(f"{visible(one.path)}: labeled {classes} ({100 * one.confidence:.0f} %)")
    for split, count in report.num_images.items():
        print(f"{split}: {count} images")
    if report.unsearched:
        print(
            f"Damage inside of {report.unsearched} JPEGs was not looked for: "
            "pip install 'keras-deep-residual[data]'"
        )
    for kinds, told in ((report.counts, data.check.FAULTS), (report.note_counts, data.check.NOTES)):
        for kind, count in kinds.items():
            print(f"{kind}: {count}. {told[kind]}")
