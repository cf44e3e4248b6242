"""Writes the snapshots anew: `python -m tests.snapshot.make api`, `help`, `layers` or `stored`.

- `api`: after a change of the public API that is meant and stands in CHANGELOG.md. The diff of
  `public_api.json` has to show that change and no other.
- `help`: after a change of the command's flags. The site has these texts.
- `layers`: after networks were added to `describe.NETWORKS`. A changed line means that weights
  files which users have no longer fit: that needs a way to read the old ones first.
- `stored`: only where a format is given up for good, and CHANGELOG.md says so. The files stand for
  those that earlier versions wrote; new ones would show that this version reads its own. To pin
  more, write further files beside them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_resnet.export import HubLayer, export_hub
from keras_resnet.weights import save_torch_weights
from tests.snapshot import describe, nets


def write_api() -> None:
    describe.write(describe.PUBLIC_API, describe.public_api())


def write_layers() -> None:
    describe.write(
        describe.LAYER_NAMES, {name: describe.network(name) for name in describe.NETWORKS}
    )


def write_stored() -> None:
    """Writes every file of `stored/`, and what the models in them give into `expected.npz`."""
    folder = nets.STORED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    expected = {
        "grey": nets.draw_images(1),
        "rgb": nets.draw_images(3),
        "train_images": rng.integers(0, 256, (4 * nets.BATCH, 8, 8, 1)).astype("uint8"),
        "train_labels": rng.integers(0, nets.CLASSES, 4 * nets.BATCH).astype("int32"),
    }

    for name, make in nets.MODELS.items():
        model = nets.randomize(make())
        model.save(folder / f"{name}.keras")
        expected[name] = nets.outputs(model, nets.images_for(model, expected))

    model = nets.randomize(nets.narrow())
    model.save_weights(folder / "model.weights.h5")
    save_torch_weights(model, folder / "model.safetensors")
    expected["weights"] = nets.outputs(model, expected["grey"])

    model = nets.randomize(nets.standardizing())
    module = export_hub(model, folder / "hub_module", "classification", labels=nets.LABELS)
    expected["hub_module"] = nets.outputs(HubLayer(module), (expected["grey"] + 1) / 2)

    data = nets.dataset(expected["train_images"], expected["train_labels"])
    with tempfile.TemporaryDirectory() as scratch:
        trainer = nets.train(data, nets.SAVED_STEP, Path(scratch))
        shutil.copytree(scratch, folder / "checkpoint")
        expected["checkpoint"] = nets.outputs(trainer.model, expected["grey"])
        trainer = nets.train(data, nets.LAST_STEP, Path(scratch))
        expected["continued"] = nets.outputs(trainer.model, expected["grey"])

    objects = {
        name: keras.saving.serialize_keras_object(make()) for name, make in nets.REGISTERED.items()
    }
    describe.write(folder / "objects.json", objects)
    np.savez_compressed(folder / "expected.npz", **expected)


def write_help() -> None:
    """Writes the help of every verb and study, as the command shows it."""
    shutil.rmtree(describe.HELP, ignore_errors=True)
    describe.HELP.mkdir()
    for name, text in describe.helps().items():
        (describe.HELP / f"{name}.txt").write_text(text, "utf-8")


PARTS = {"api": write_api, "help": write_help, "layers": write_layers, "stored": write_stored}

if __name__ == "__main__":
    if not sys.argv[1:] or not set(sys.argv[1:]) <= set(PARTS):
        sys.exit(__doc__)
    for part in sys.argv[1:]:
        PARTS[part]()
