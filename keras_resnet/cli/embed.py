"""Writes the feature vectors of the images in a folder to a table.

    keras-resnet embed model.keras photographs/ -o table.csv

MODEL is a .keras file, whose classifier is left out, or the directory of a Hub module of features.
The table, .csv or .parquet, has a row for every image: its path, its class if it is in a class
folder, and its features. Images are prepared as for `keras-resnet evaluate`.
"""

import dataclasses
from collections.abc import Sequence

from tyro.conf import Positional

from keras_resnet import evaluation
from keras_resnet.cli.arguments import Arguments, own_values, parse
from keras_resnet.cli.session import print_json
from keras_resnet.utils import remote
from keras_resnet.utils.escapes import visible


@dataclasses.dataclass(frozen=True)
class Embed(Arguments):
    """Arguments of `keras-resnet embed`.

    Attributes:
        model: A trained model.
        folder: Folder of images, or of class folders.
        output: Table to write, .csv or .parquet; maybe at an address such as gs://bucket/table.csv.
        image_size: Side of the images in pixels, or HEIGHTxWIDTH, for a model that takes any size;
            by default what its weights want.
        resize: Shorter side, in pixels, that an image is resized to before its center is cropped;
            by default what the weights want.
        batch_size: Images per batch.
        json: Print the numbers of images and features, and the table's name, as JSON.
    """

    model: Positional[str]
    folder: Positional[str]
    output: str
    image_size: str | None = None
    resize: int | None = None
    batch_size: int = 32
    json: bool = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Writes the table of a folder."""
    given = parse(Embed, argv, __doc__, prog)
    own = own_values(given)
    output = own.pop("output")

    evaluation.embeddings.table_writer(output)  # which refuses a name before the images are read
    table = evaluation.embeddings.embed(**own)
    with remote.written("output", output, overwrite=True) as path:
        table.write(path)
    images, features = table.vectors.shape
    if given.json:
        print_json({"images": images, "features": features, "output": output})
        return
    print(f"{images:,} images, {features:,} features each: {visible(output)}")
