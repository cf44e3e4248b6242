"""Reads a folder of images through, and lists what training would stumble over.

    python recipes/check_data.py DIR

DIR holds train/, val/ and test/ of class folders. Listed are files that are empty, truncated,
unreadable, too large, CMYK, of 16 bits per channel, or of another format than their name says, and
class folders that are empty or not among the training classes. Exit code 0 where nothing was found,
else 1.
"""

import sys

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.data import check_data
from keras_resnet.data.check import FAULTS


def main() -> None:
    parser = cli.LineParser(__doc__)
    parser.add_argument("folder", metavar="DIR")
    report = check_data(parser.parse_args().folder)
    for finding in report.findings:
        print(f"{finding.path}: {finding.fault}{finding.detail and f' ({finding.detail})'}")
    for split, count in report.num_images.items():
        print(f"{split}: {count} images")
    for fault, count in report.counts.items():
        print(f"{fault}: {count}. {FAULTS[fault]}")
    sys.exit(1 if report.findings else 0)


if __name__ == "__main__":
    cli.run(main)
