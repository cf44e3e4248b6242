"""Measures trained models by the paper's test protocols.

    keras-resnet evaluate --models model.keras --dataset folder --data-dir DIR --protocol ten-crop

Writes top-1 and top-5 error with 95 % intervals and images/s (metrics.json), a table and a plot by
class (per_class), the confusion matrix as a table and a plot (confusion), and the prediction for
every image (predictions.csv). Several --models are an ensemble. Probabilities are averaged over
crops and models, with --average logits the logits. Outputs are matched to the classes of the data
set by name: those that the model remembers, or that labels.txt beside it has. Where images can have
several labels, the figures are mean average precision, F1 and the share of images of which all
labels are right, and there is no confusion matrix.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from keras_resnet import evaluation
from keras_resnet.analysis import plots
from keras_resnet.cli.flags import Arguments, options_of, parse, print_json
from keras_resnet.data import load_dataset, option_names
from keras_resnet.experiment.card import versions
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.export.reading import labels_of
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import write_json
from keras_resnet.utils.processes import command_line


@dataclasses.dataclass(frozen=True)
class Evaluate(Arguments):
    """Arguments of `keras-resnet evaluate`.

    Attributes:
        models: Trained models, .keras files.
        dataset: Name of the data set.
        data_dir: Folder of its files.
        image_size: Side of the images; by default the first model's.
        max_bad_files: Unreadable images to skip, with a warning each.
        split: train, validation or test; by default the last that there is.
        protocol: Transforms and crops of an image.
        resize: Shorter side of what is cropped; by default what the weights want.
        scales: Shorter sides for multi-scale; by default the paper's.
        flip: Whether images are mirrored too, for multi-scale.
        average: What is averaged over crops and models.
        batch_size: Crops of the models' size per step.
        workdir: Folder that everything is written to.
        json: Print the content of metrics.json, as JSON.
    """

    models: tuple[str, ...]
    dataset: str = "digits"
    data_dir: str | None = None
    image_size: int | None = None
    max_bad_files: int | None = None
    split: str | None = None
    protocol: Literal["single-crop", "ten-crop", "multi-scale"] = "single-crop"
    resize: int | None = None
    scales: tuple[int, ...] | None = None
    flip: bool | None = None
    average: Literal["softmax", "logits"] = "softmax"
    batch_size: int = 128
    workdir: str = "runs/evaluation"
    json: bool = False


def main(
    argv: Sequence[str] | None = None, description: str | None = __doc__, prog: str | None = None
) -> None:
    """Evaluates models, prints the errors, and writes tables and plots."""
    given = parse(Evaluate, argv, description, prog)

    workdir = expect_folder("workdir", given.workdir)
    if (workdir / "metrics.json").exists():
        raise ValueError(
            f"`workdir` must be a new folder, or one without results. Received: workdir={workdir}"
        )
    plots.require_matplotlib()
    options = options_of(given, "resize", "scales", "flip")
    protocol = evaluation.make_protocol(given.protocol, **options)
    models = [evaluation.load_model(path) for path in given.models]
    options = options_of(given, "image_size", "max_bad_files")
    if "image_size" in option_names(given.dataset) and (side := models[0].input_shape[1]):
        options.setdefault("image_size", side)
    dataset = load_dataset(given.dataset, given.data_dir, **options)
    with evaluation.Progress() as progress:
        result = evaluation.evaluate(
            models,
            dataset,
            protocol,
            split=given.split,
            average=given.average,
            batch_size=given.batch_size,
            names=given.models,
            class_names=[labels_of(*pair) for pair in zip(models, given.models, strict=True)],
            progress=progress,
        )
    if not given.json:
        print(visible(result))

    first = "per_class.csv"
    if isinstance(result, evaluation.Evaluation):
        first = "confusion.png"
        title = f"{' + '.join(given.models)}: {result.split} images of {dataset.name}, "
        title += f"{result.protocol}, top-1 error {100 * result.top1_error:.2f} %"
        plots.confusion_matrix(result.confusion, dataset.class_names, workdir / first, title=title)
        plots.class_errors(result.per_class(), workdir / "per_class.png", title=title)
    else:  # Labels that do not exclude each other are not mistaken for one another.
        plots.write_table(workdir / first, result.per_class())
    plots.write_table(workdir / "predictions.csv", result.predictions())
    metrics = {**result.metrics(), "command": command_line(), "versions": versions()}
    write_json(workdir / "metrics.json", metrics)
    if given.json:
        print_json(metrics)
        return
    print(f"Everything is in {workdir}: begin with metrics.json and {first}")
