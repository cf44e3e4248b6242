r"""Measures trained models by the paper's test protocols (sections 3.4, 4.1 of arXiv 1512.03385).

    python recipes/evaluate.py --models runs/digits/model.keras --dataset digits \
        --protocol ten-crop --resize 9 --workdir runs/ten-crop

Writes top-1 and top-5 error with 95 % intervals and images/s (metrics.json), a table and a plot by
class (per_class), the confusion matrix as a table and a plot (confusion), and the prediction for
every image (predictions.csv). The digits take seconds. In general a protocol costs, in forward
passes of the network's own image size: single-crop 1 an image, ten-crop 10, multi-scale about 18
(24 for photographs of 4:3, which are taken whole); all of them once per model.

Several --models are an ensemble. Probabilities are averaged over crops and models, as by the
authors' Caffe models; --average logits averages logits, as fb.resnet.torch does.

Top-1/top-5 error of the paper on the 50 000 validation images of ImageNet, in %:

    ten-crop      ResNet34 (B) 24.52/7.46, ResNet50 22.85/6.71, ResNet101 21.75/6.05,
                  ResNet152 21.43/5.71; plain-34 28.54/10.02
    multi-scale   ResNet34 (B) 21.84/5.71, ResNet50 20.74/5.25, ResNet101 19.87/4.60,
                  ResNet152 19.38/4.49; an ensemble of six 3.57 top-5 on the test images

On CIFAR-10 the paper tests a single crop of an image (single-crop), top-1 error in %: ResNet20
8.75, ResNet56 6.97, ResNet110 6.43.
"""

import argparse
import shlex
import sys
from pathlib import Path

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.analysis import plots
from keras_resnet.data import load_dataset
from keras_resnet.evaluation import Progress, evaluate, load_model, make_protocol
from keras_resnet.experiment.card import versions
from keras_resnet.utils.files import write_json


def main() -> None:
    given = parser().parse_args()
    workdir = Path(given.workdir)
    if (workdir / "metrics.json").exists() or workdir.is_file():
        raise ValueError(
            f"`workdir` must be a new folder, or one without results. Received: workdir={workdir}"
        )
    plots.require_matplotlib()
    protocol = make_protocol(given.protocol, **_given(given, "resize", "scales", "flip"))
    dataset = load_dataset(
        given.dataset, given.data_dir, **_given(given, "image_size", "max_bad_files")
    )
    models = [load_model(path) for path in given.models]
    with Progress() as progress:
        evaluation = evaluate(
            models,
            dataset,
            protocol,
            split=given.split,
            average=given.average,
            batch_size=given.batch_size,
            names=given.models,
            progress=progress,
        )
    print(evaluation)

    title = f"{' + '.join(given.models)}: {evaluation.split} images of {dataset.name}, "
    title += f"{evaluation.protocol}, top-1 error {100 * evaluation.top1_error:.2f} %"
    plots.confusion_matrix(
        evaluation.confusion, dataset.class_names, workdir / "confusion.png", title=title
    )
    plots.class_errors(evaluation.per_class(), workdir / "per_class.png", title=title)
    plots.write_table(workdir / "predictions.csv", evaluation.predictions())
    command = shlex.join(["python", *sys.argv])
    metrics = {**evaluation.metrics(), "command": command, "versions": versions()}
    write_json(workdir / "metrics.json", metrics)
    print(f"Everything is in {workdir}: begin with metrics.json and confusion.png")


def parser() -> argparse.ArgumentParser:
    words = cli.LineParser(__doc__)

    def add(flag: str, text: str, **options: object) -> None:
        words.add_argument(flag, help=text, **{"default": argparse.SUPPRESS, **options})

    add("--models", "Trained models, .keras files", nargs="+", required=True, metavar="PATH")
    add("--dataset", "Name of the data set", default="digits")
    add("--data-dir", "Where its files lie", default=None)
    add("--image-size", "Side of the models' images, for photographs", type=int)
    add("--max-bad-files", "Unreadable images to skip, with a warning each", type=int)
    add("--split", "train, validation or test; the last that there is", default=None)
    add("--protocol", "single-crop, ten-crop or multi-scale", default="single-crop")
    add("--resize", "Shorter side of what is cropped; the data set's own", type=int)
    add("--scales", "Shorter sides for multi-scale; the paper's", type=int, nargs="*")
    add("--flip", "Mirror images too, for multi-scale", action=argparse.BooleanOptionalAction)
    add("--average", "softmax or logits", default="softmax")
    add("--batch-size", "Crops of the models' size per step", type=int, default=128)
    add("--workdir", "Folder that everything is written to", default="runs/evaluation")
    return words


def _given(given: argparse.Namespace, *names: str) -> dict[str, object]:
    return {name: getattr(given, name) for name in names if hasattr(given, name)}


if __name__ == "__main__":
    cli.run(main)
