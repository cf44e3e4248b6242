"""Writes the feature vectors of the images in a folder to a table.

    keras-resnet embed model.keras photographs/ -o table.csv

MODEL is a .keras file, whose classifier is left out, or the directory of a Hub module of features.
The table, .csv or .parquet, has a row for every image: its path, its class if it is in a class
folder, and its features. Images are shown to the model as in evaluation.
"""

from collections.abc import Sequence
from pathlib import Path

from keras_resnet.cli.flags import LineParser
from keras_resnet.evaluation import embeddings
from keras_resnet.utils.escapes import visible


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Writes the table of a folder."""
    parser = LineParser(__doc__, prog)
    parser.add_trust()
    add = parser.add_argument
    add("model", metavar="MODEL", help="A trained model")
    add("folder", metavar="FOLDER", help="Folder of images, or of class folders")
    add("-o", "--output", type=Path, required=True, help="Table to write, .csv or .parquet")
    add("--image-size", type=int, help="Side, for a model that takes any")
    add("--resize", type=int, help="Shorter side of which the center is shown")
    add("--batch-size", type=int, default=32, help="Images at a time")
    given = vars(parser.parse_args(argv))
    output = given.pop("output")

    embeddings.table_writer(output)  # which refuses a name before the images are read
    table = embeddings.embed(**given)
    table.write(output)
    images, features = table.vectors.shape
    print(f"{images:,} images, {features:,} features each: {visible(output)}")
