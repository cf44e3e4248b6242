"""Lists the networks: default input, parameters, multiply-adds, and published weights.

    keras-resnet models 'resnet50*'
    keras-resnet models --family imagenet --pretrained

The numbers behind the weights are their published single-crop top-1 accuracies on ImageNet in
percent, at 224 pixels. --json prints the same for programs, with where weights and accuracies come
from. --update README.md writes the whole list between the lines "<!-- model zoo -->" and
"<!-- end of model zoo -->" of that file. --count counts all networks anew, as they are built, in
about two minutes; a new entry of the table needs it.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from keras_resnet.analysis.counting import count_models
from keras_resnet.analysis.plots import write_table
from keras_resnet.cli.flags import LineParser
from keras_resnet.models.zoo import SIZES, list_models, models_table, with_models
from keras_resnet.utils.files import write_text


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Prints the networks, or brings what is stored of them up to date."""
    parser = LineParser(__doc__, prog)
    add = parser.add_argument
    add("pattern", nargs="?", default="*", help="Of the names: 'resnet50*'")
    add("--family", help="imagenet or cifar")
    weights = "Only those that there are published weights for, or those that there are none for"
    add("--pretrained", action=argparse.BooleanOptionalAction, help=weights)
    add("--json", action="store_true", help="Print JSON")
    add("--update", type=Path, metavar="FILE", help="A document to keep in step")
    add("--count", action="store_true", help="Count the networks anew")
    given = parser.parse_args(argv)

    if given.count:
        rows = []
        for row in count_models():
            rows.append(row)
            print(*row.values(), sep="  ", flush=True)
        write_table(SIZES, rows)
    if given.update:
        write_text(given.update, with_models(given.update.read_text(encoding="utf-8")))
    if given.count or given.update:
        return
    models = list_models(given.pattern, family=given.family, pretrained=given.pretrained)
    if given.json:
        print(json.dumps([dataclasses.asdict(model) for model in models], indent=2))
    elif models:
        print(models_table(models))
    else:
        print(f"There is no network {given.pattern!r} of that kind.")
