"""Lists the networks: default input, parameters, multiply-adds, and published weights.

    keras-resnet models 'resnet50*'
    keras-resnet models --family imagenet --pretrained

The numbers behind the weights are their published single-crop top-1 accuracies on ImageNet in
percent, at 224 pixels. --json prints also the sources of weights and accuracies.
--update docs/zoo.md writes the whole list between the lines "<!-- model zoo -->" and
"<!-- end of model zoo -->" of that file. --count counts all networks anew, as they are built, in
about two minutes; a new entry of the table needs it.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from keras_resnet import analysis, models
from keras_resnet.cli import Arguments, parse, print_json
from keras_resnet.utils.files import write_text
from keras_resnet.utils.tables import write_table


@dataclasses.dataclass(frozen=True)
class Models(Arguments):
    """Arguments of `keras-resnet models`.

    Attributes:
        pattern: Pattern of the names, such as 'resnet50*'.
        family: Networks for photographs (imagenet) or for small images (cifar); by default both.
        pretrained: Whether only networks with published weights are listed, or only those without;
            by default all are.
        json: Print the networks as JSON.
        update: Document to write the list into; by default none.
        count: Whether all networks are counted anew.
    """

    pattern: Positional[str] = "*"
    family: Literal["imagenet", "cifar"] | None = None
    pretrained: bool | None = None
    json: bool = False
    update: Path | None = None
    count: bool = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Prints the networks, or brings what is stored of them up to date."""
    given = parse(Models, argv, __doc__, prog)

    if given.count:
        rows = []
        for row in analysis.counting.count_models():
            rows.append(row)
            print(*row.values(), sep="  ", flush=True)
        write_table(models.zoo.SIZES, rows)
    if given.update:
        write_text(given.update, models.zoo.with_models(given.update.read_text(encoding="utf-8")))
    if given.count or given.update:
        return
    found = models.list_models(given.pattern, family=given.family, pretrained=given.pretrained)
    if given.json:
        print_json([dataclasses.asdict(model) for model in found])
    elif found:
        print(models.models_table(found))
    else:
        print(f"There is no network {given.pattern!r} of that kind.")
