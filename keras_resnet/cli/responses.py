"""Measures how strongly the layers of trained networks respond.

    keras-resnet responses --models runs/*/model.keras --workdir runs/responses

Draws the standard deviation of every 3x3 layer's response, after batch normalization and before the
nonlinearity or addition, in the order of the layers and in falling order, one line per model.
Writes responses.png, .svg, .csv and .json to --workdir, and a page with all of it (report.html).
"""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from keras_resnet import analysis, data, evaluation, experiment, surgery
from keras_resnet.cli.arguments import Arguments, own_values, parse
from keras_resnet.cli.session import print_json
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.utils import checks
from keras_resnet.utils.files import write_json
from keras_resnet.utils.terminal import RESULTS


@dataclasses.dataclass(frozen=True)
class Responses(Arguments):
    """Arguments of `keras-resnet responses`.

    Attributes:
        models: Trained models, .keras files.
        dataset: Name of the data set.
        data_dir: Folder of its files; by default the data set's own.
        image_size: Side of the images in pixels, or HEIGHTxWIDTH; by default the data set's own.
        split: Split whose images are used.
        batch_size: Images per batch.
        layers: Convolutions to measure: those of 3x3, or all.
        workdir: Folder that everything is written to.
        json: Print the content of responses.json, as JSON.
    """

    models: tuple[str, ...]
    dataset: str = "digits"
    data_dir: str | None = None
    image_size: str | None = None
    split: Literal["train", "validation", "test"] = "test"
    batch_size: int = 128
    layers: Literal["3x3", "all"] = "3x3"
    workdir: str = "runs/responses"
    json: bool = False


def main(
    argv: Sequence[str] | None = None, description: str | None = __doc__, prog: str | None = None
) -> None:
    """Measures how strongly the layers of trained networks respond (Fig. 7).

        keras-resnet study responses --models runs/*/model.keras --workdir runs/responses

    Writes responses.png, .svg, .csv and .json, and report.html to --workdir.
    """
    given = parse(Responses, argv, description, prog)

    workdir = expect_folder("workdir", given.workdir)
    analysis.plots.require_matplotlib()
    experiment.page.require_jinja()
    options = {}
    if given.image_size is not None:
        options["image_size"] = checks.checked_size("image_size", given.image_size)
    dataset = data.load_dataset(given.dataset, given.data_dir, **options)
    found = {}
    models = _labeled({path: evaluation.load_model(path) for path in given.models})
    for label, model in models.items():
        batches = dataset.eval_batches(given.split, given.batch_size)
        found[label] = analysis.layer_responses(model, batches, layers=given.layers)
        mean = sum(layer.std for layer in found[label]) / len(found[label])
        text = f"{label}: {len(found[label])} layers, mean standard deviation {mean:.3f}"
        RESULTS.info(text)
    count = dataset.num_examples(given.split)
    title = (
        f"Responses of {given.layers.replace('3x3', 'the 3x3')} layers to {count:,} "
        f"{given.split} images of {dataset.name}"
    )
    configs = {label: surgery.remembered(model) for label, model in models.items()}
    plain = {label for label, config in configs.items() if config and config.architecture.plain}
    analysis.plots.responses(found, workdir / "responses.png", title=title, plain=plain)
    responses = {label: list(map(dataclasses.asdict, layers)) for label, layers in found.items()}
    content = {
        "dataset": dataset.name,
        "split": given.split,
        "images": count,
        "layers": given.layers,
        "responses": responses,
    }
    write_json(workdir / "responses.json", content)
    defaults = own_values(Responses(given.models)) | {"models": None}
    experiment.page.write_report(
        workdir,
        title=title,
        metrics=experiment.card.origin(),
        settings=own_values(given),
        defaults=defaults,
    )
    if given.json:
        print_json(content)
    RESULTS.info(f"Everything is in {workdir}: begin with {experiment.page.REPORT}")


def _labeled(models: Mapping[str, Any]) -> dict[str, Any]:
    """Returns models by name, those of one name with their folders, else by their paths."""
    names = [
        (model.name, f"{model.name} ({Path(path).resolve().parent.name})", path)
        for path, model in models.items()
    ]
    counts = collections.Counter(itertools.chain(*names))
    labels = (next(name for name in candidates if counts[name] == 1) for candidates in names)
    return dict(zip(labels, models.values(), strict=True))
