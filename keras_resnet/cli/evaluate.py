"""Measures trained models by the paper's test protocols.

    keras-resnet evaluate --models model.keras --dataset folder --data-dir DIR --protocol ten-crop

Writes top-1 and top-5 error with 95 % intervals and images/s (metrics.json), a table and a plot by
class (per_class), the confusion matrix as a table and a plot (confusion), the prediction for every
image (predictions.csv), and a page with all of it and the worst mistakes (report.html). Several
--models are an ensemble. Probabilities are averaged over crops and models, with --average logits
the logits. Outputs are matched to the classes of the data set by name: those that the model
remembers, or that labels.txt beside it has.
"""

import argparse
from collections.abc import Sequence

from keras_resnet import evaluation
from keras_resnet.analysis import plots
from keras_resnet.cli.flags import LineParser, options_of
from keras_resnet.data import load_dataset, option_names
from keras_resnet.experiment.card import versions
from keras_resnet.experiment.page import REPORT, require_jinja, write_evaluation, write_report
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.export.reading import labels_of
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import write_json
from keras_resnet.utils.processes import command_line


def main(
    argv: Sequence[str] | None = None, description: str | None = __doc__, prog: str | None = None
) -> None:
    """Evaluates models, prints the errors, and writes tables and plots."""
    parser = LineParser(description, prog)
    add = parser.add_argument
    parser.add_models_and_data()
    add("--image-size", type=int, help="Side of the images; by default the first model's")
    add("--max-bad-files", type=int, help="Unreadable images to skip, with a warning each")
    add("--split", help="train, validation or test; the last that there is")
    add("--protocol", default="single-crop", help="single-crop, ten-crop or multi-scale")
    add("--resize", type=int, help="Shorter side of what is cropped; what the weights want")
    add("--scales", type=int, nargs="*", help="Shorter sides for multi-scale; the paper's")
    text = "Mirror images too, for multi-scale"
    add("--flip", action=argparse.BooleanOptionalAction, help=text)
    add("--average", default="softmax", help="softmax or logits")
    add("--batch-size", type=int, default=128, help="Crops of the models' size per step")
    add("--workdir", default="runs/evaluation", help="Folder that everything is written to")
    given = parser.parse_args(argv)

    workdir = expect_folder("workdir", given.workdir)
    if (workdir / "metrics.json").exists():
        raise ValueError(
            f"`workdir` must be a new folder, or one without results. Received: workdir={workdir}"
        )
    plots.require_matplotlib()
    require_jinja()
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
    print(visible(result))

    title = f"{' + '.join(given.models)}: {result.split} images of {dataset.name}, "
    title += f"{result.protocol}, top-1 error {100 * result.top1_error:.2f} %"
    write_evaluation(result, workdir, title)
    metrics = {**result.metrics(), "command": command_line(), "versions": versions()}
    write_json(workdir / "metrics.json", metrics)
    # Maps are those of one model.
    model = models[0] if len(models) == 1 else None
    title = f"{' + '.join(given.models)} on {dataset.name}"
    write_report(workdir, title=title, model=model, dataset=dataset, result=result)
    print(f"Everything is in {workdir}: begin with {REPORT} and metrics.json")
