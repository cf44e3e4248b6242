"""Measures how strongly the layers of trained networks respond (Fig. 7 of arXiv 1512.03385).

    python recipes/responses.py --models runs/deepen/*/model.keras --workdir runs/responses

Draws the standard deviation of every 3x3 layer's response, after batch normalization and before the
nonlinearity or addition, in the order of the layers and in falling order, one line per model. In
the paper residual networks respond less than plain ones, and deeper ones less than shallower ones:
a residual block changes its input only a little.

Writes responses.png, .svg, .csv and .json to --workdir.
"""

import dataclasses
from pathlib import Path

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.analysis import layer_responses, plots
from keras_resnet.data import load_dataset
from keras_resnet.evaluation import load_model
from keras_resnet.utils.files import write_json


def main() -> None:
    parser = cli.LineParser(__doc__)
    parser.add_argument(
        "--models", nargs="+", required=True, metavar="PATH", help="Trained models, .keras files"
    )
    parser.add_argument("--dataset", default="digits", help="Name of the data set")
    parser.add_argument("--data-dir", help="Where its files lie")
    parser.add_argument("--image-size", type=int, help="Side of the images in pixels")
    parser.add_argument(
        "--split", default="test", choices=("train", "validation", "test"), help="Images to use"
    )
    parser.add_argument("--batch-size", type=int, default=128, help="Images at a time")
    parser.add_argument(
        "--layers", default="3x3", choices=("3x3", "all"), help="Convolutions to measure"
    )
    parser.add_argument("--workdir", default="runs/responses", help="Folder to write to")
    given = parser.parse_args()

    plots.require_matplotlib()
    options = {} if given.image_size is None else {"image_size": given.image_size}
    dataset = load_dataset(given.dataset, given.data_dir, **options)
    models = {path: load_model(path) for path in given.models}
    # Models of one name are told apart by their folders, and where these agree by their paths.
    names = [model.name for model in models.values()]
    folders = {path: Path(path).resolve().parent.name for path in models}
    longer = [f"{model.name} ({folders[path]})" for path, model in models.items()]
    found = {}
    for path, model in models.items():
        label = model.name
        if names.count(label) > 1:
            label = f"{model.name} ({folders[path]})"
            if longer.count(label) > 1:
                label = path
        batches = dataset.eval_batches(given.split, given.batch_size)
        found[label] = layer_responses(model, batches, layers=given.layers)
        mean = sum(layer.std for layer in found[label]) / len(found[label])
        print(f"{label}: {len(found[label])} layers, mean standard deviation {mean:.3f}")
    workdir = Path(given.workdir)
    count = dataset.num_examples(given.split)
    plots.responses(
        found,
        workdir / "responses.png",
        title=f"Responses of {given.layers.replace('3x3', 'the 3x3')} layers to {count:,} "
        f"{given.split} images of {dataset.name}",
    )
    write_json(
        workdir / "responses.json",
        {
            "dataset": dataset.name,
            "split": given.split,
            "images": count,
            "layers": given.layers,
            "responses": {
                label: [dataclasses.asdict(layer) for layer in layers]
                for label, layers in found.items()
            },
        },
    )
    print(f"Everything is in {workdir}")


if __name__ == "__main__":
    cli.run(main)
