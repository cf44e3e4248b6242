"""Reads a folder of images through, and lists what training would stumble over.

    keras-resnet check-data DIR

DIR holds train/, val/ and test/ of class folders. Listed are files that are empty, truncated,
unreadable, too large, damaged inside (JPEGs, with the extra `data`), CMYK, of 16 bits per channel,
of another format than their name says, or no images by their suffix; class folders that are empty,
not among the training classes, or whose name is not one line in UTF-8; splits without class
folders, and a single class. Exit code 0 where nothing was found, else 1.
"""

import dataclasses
import sys
from collections.abc import Sequence

from tyro.conf import Positional

from keras_resnet import data
from keras_resnet.cli.flags import Arguments, parse, print_json
from keras_resnet.data.check import FAULTS
from keras_resnet.utils.escapes import visible


@dataclasses.dataclass(frozen=True)
class CheckData(Arguments):
    """Arguments of `keras-resnet check-data`.

    Attributes:
        folder: Folder of class folders of images, in train/, val/ and test/ or to be split.
        json: Print JSON.
    """

    folder: Positional[str]
    json: bool = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Prints the faults of a folder, and exits with 1 if there are any."""
    given = parse(CheckData, argv, __doc__, prog)
    report = data.check_data(given.folder)
    if given.json:
        print_json(
            {
                "findings": [dataclasses.asdict(finding) for finding in report.findings],
                "num_images": report.num_images,
                "unsearched": report.unsearched,
            }
        )
        sys.exit(1 if report.findings else 0)
    for finding in report.findings:
        detail = finding.detail and f" ({visible(finding.detail)})"
        print(f"{visible(finding.path)}: {finding.fault}{detail}")
    for split, count in report.num_images.items():
        print(f"{split}: {count} images")
    if report.unsearched:
        print(
            f"Damage inside of {report.unsearched} JPEGs was not looked for: "
            "pip install 'keras-deep-residual[data]'"
        )
    for fault, count in report.counts.items():
        print(f"{fault}: {count}. {FAULTS[fault]}")
    sys.exit(1 if report.findings else 0)
