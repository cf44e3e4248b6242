"""Lists the networks: default input, parameters, multiply-adds, and published weights.

    python recipes/models.py 'resnet50*'
    python recipes/models.py --family imagenet --pretrained

The numbers behind the weights are their published single-crop top-1 accuracies on ImageNet in
percent, at 224 pixels. --json prints the same for programs, with where weights and accuracies come
from. --update README.md writes the whole list between the lines "<!-- model zoo -->" and
"<!-- end of model zoo -->" of that file. --count counts all networks anew, as they are built, in
about two minutes; a new entry of the table needs it.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.analysis.counting import count_models
from keras_resnet.analysis.plots import write_table
from keras_resnet.models.zoo import (
    SIZES,
    list_models,
    models_table,
    with_models,
)
from keras_resnet.utils.files import write_text


def main() -> None:
    given = parser().parse_args()
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


def parser() -> argparse.ArgumentParser:
    words = cli.LineParser(__doc__)
    words.add_argument("pattern", nargs="?", default="*", help="Of the names: 'resnet50*'")
    words.add_argument("--family", help="imagenet or cifar")
    words.add_argument(
        "--pretrained",
        action=argparse.BooleanOptionalAction,
        help="Only those that there are published weights for, or those that there are none for",
    )
    words.add_argument("--json", action="store_true", help="Print JSON")
    words.add_argument("--update", type=Path, metavar="FILE", help="A document to keep in step")
    words.add_argument("--count", action="store_true", help="Count the networks anew")
    return words


if __name__ == "__main__":
    cli.run(main)
