"""The package's readers, each with files to damage. Runs in a worker, which has TensorFlow.

A reader returns the value of a file, or raises what it documents; `worker` judges the rest.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import shutil
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import keras_resnet
from keras_resnet.data import Transforms, check_data, load_dataset
from keras_resnet.data.decoding import decode_whole, decoding_fault
from keras_resnet.data.folder import index_folder
from keras_resnet.experiment.preflight import expect_classes
from keras_resnet.experiment.workdir import read_object
from keras_resnet.export import HubLayer, export, export_hub, load_exported
from keras_resnet.export.handles import module_directory
from keras_resnet.training import MetricsLogger, read_epochs, read_records
from keras_resnet.training.checkpoints import (
    Checkpoint,
    DamagedCheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from keras_resnet.weights import find_weights, load_model, load_weights, save_torch_weights
from keras_resnet.weights.beside import read_labels
from tests.faults.files import class_folders, materialize
from tests.servers import serving
from tests.weights.test_torch_files import write_legacy, write_torch

LABELS = ["apple", "bee", "cät", "dog and cat"]


class Disagreement(Exception):
    """Two readers of one file decide differently."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader under attack.

    Attributes:
        make: Writes whole files, or folders that are read as one, into an empty folder.
        read: From a path to the value. The path is the only thing in its folder.
        checked: How far a checksum reaches. "nothing": bytes that changed may change the value.
            "bytes": a file that was damaged has its value or is refused; one that was forged,
            checksums included, is another file. "content": the forged one, too.
        refuses: Classes of the errors that it documents.
        megabytes: Memory that it may take for a file of nothing.
        seconds: Time that it may take.
        whole: Whether it accepts the files as they are made.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    checked: str = "nothing"
    refuses: tuple[type[Exception], ...] = (ValueError, OSError)
    megabytes: int = 150
    seconds: float = 15.0
    whole: bool = True


def net(name: str = "resnet8") -> keras.Model:
    """A small network whose weights compress well, so that a stored find is small."""
    model = keras_resnet.CifarResNet(8, input_tensor=_scaled(), classes=len(LABELS), name=name)
    for variable in model.variables:
        numbers = np.arange(np.prod(variable.shape, dtype=int)).reshape(variable.shape)
        variable.assign(numbers % 5 / 8 + 0.25 if "var" in variable.path else numbers % 7 / 16)
    return model


def _scaled() -> keras.KerasTensor:
    return keras.layers.Rescaling(1 / 64)(keras.Input((8, 8, 3)))


def _weights(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.get_weights()]


# Pictures. Mean color of the undamaged ones, by their bytes, as Pillow reads them.
_COLORS: dict[bytes, np.ndarray] = {}


def _make_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 255, (5, 7, 3)).astype("uint8")
    picture = Image.fromarray(rough).resize((28, 20), Image.Resampling.BICUBIC)
    alpha = picture.convert("RGBA")
    alpha.putalpha(Image.fromarray(np.arange(560, dtype="uint8").reshape(20, 28)))
    deep = Image.fromarray(np.arange(560, dtype="uint16").reshape(20, 28) * 100)
    frames = {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)]}
    for name, image, options in (
        ("rgb.jpg", picture, {}),
        ("progressive.jpg", picture, {"progressive": True}),
        ("gray.jpg", picture.convert("L"), {}),
        ("cmyk.jpg", picture.convert("CMYK"), {}),
        ("rgb.png", picture, {}),
        ("gray.png", picture.convert("L"), {}),
        ("palette.png", picture.quantize(16), {}),
        ("alpha.png", alpha, {}),
        ("deep.png", deep, {}),
        ("bits.png", picture.convert("1"), {}),
        ("still.gif", picture, {}),
        ("moving.gif", picture, frames),
        ("rgb.bmp", picture, {}),
        ("palette.bmp", picture.quantize(16), {}),
        ("gray.bmp", picture.convert("L"), {}),
        ("rgb.webp", picture, {}),
        ("lossless.webp", picture, {"lossless": True}),
        ("alpha.webp", alpha, {}),
        ("moving.webp", picture, frames),
    ):
        path = folder / name
        image.save(path, **options)
        if not name.startswith(("alpha", "deep")):  # What those look like is a convention.
            with Image.open(path) as again:
                _COLORS[path.read_bytes()] = np.asarray(again.convert("RGB")).mean((0, 1))


def _read_image(path: Path) -> object:
    """Reads as check-data, training, evaluation and prediction do, with three channels and one."""
    data, values, fates = path.read_bytes(), {}, {}

    def attempt(name: str, function: Callable[[], tf.Tensor]) -> None:
        try:
            image = function().numpy()
            values[name] = digest(image)
            if data in _COLORS and image.shape[-1] == 3:
                off = np.abs(image.mean((0, 1)) - _COLORS[data]).max()
                if name.startswith("whole") and off > 8:
                    raise Disagreement(f"the colors are off by {off:.0f}")
            fates[name] = "read"
        except (tf.errors.OpError, ValueError) as error:
            fates[name] = f"refused ({str(error).splitlines()[0][:80]})"

    for channels in (3, 1):
        view = Transforms(image_size=16, channels=channels)
        draws = tf.fill([view.num_draws], 0.5)
        attempt(f"training, {channels}", lambda v=view, d=draws: v.training(data, d))
        attempt(f"evaluation, {channels}", lambda v=view: v.evaluation(data))
        attempt(f"whole, {channels}", lambda c=channels: decode_whole(tf.constant(data), c))
    fault = decoding_fault(data)
    fates["check-data"] = "read" if fault is None else f"refused ({fault})"
    if len({fate[:4] for fate in fates.values()}) > 1:
        raise Disagreement("; ".join(f"{name}: {fate}" for name, fate in fates.items()))
    if not values:
        raise ValueError(f"unreadable ({fault})")
    return values


# Weights and models.


def _read_keras(path: Path) -> object:
    return _weights(load_model(path))


def _into_net(path: Path) -> object:
    model = net()
    before = _weights(model)
    for weight, value in zip(model.weights, before, strict=True):
        weight.assign(value + 1)
    before = _weights(model)
    try:
        load_weights(model, path, "resnet8")
    except Exception:
        if not all(map(np.array_equal, before, _weights(model))):
            raise Disagreement("a refused file has changed the model") from None
        raise
    return _weights(model)


def _make_safetensors(folder: Path) -> None:
    save_torch_weights(net(), folder / "a.safetensors")


def _torch_arrays() -> dict[str, np.ndarray]:
    counted = np.arange(48, dtype="float32")
    return {
        "conv1.weight": counted.reshape(4, 3, 2, 2),
        "bn1.running_var": counted[:7].astype("float64"),
        "bn1.num_batches_tracked": np.array(5),
        "mask": np.array([True, False]),
    }


def _read_torch(path: Path) -> object:
    return find_weights(path, "resnet18").layers


def _make_checkpoint(folder: Path) -> None:
    arrays = {f"model/{i:04d}": weight for i, weight in enumerate(_weights(net()))}
    arrays |= {"step/0000": np.int64(7), "empty": np.zeros((0, 2), "float32")}
    details = {"settings": {"seed": 1}, "seconds": 1.5, "stop_training": False, "callbacks": []}
    write_checkpoint(folder / "a.npz", Checkpoint(arrays, details))


def _read_checkpoint(path: Path) -> object:
    checkpoint = read_checkpoint(path)
    return {"arrays": checkpoint.arrays, "details": checkpoint.details}


# Files of a run.


def _make_object(folder: Path) -> None:
    settings = {"model": "ResNet20", "drops": [0.5, 0.75], "data_options": {"classes": [0, 1]}}
    (folder / "config.json").write_text(json.dumps(settings))


def _make_records(folder: Path) -> None:
    rows = [
        {"kind": kind, "step": step, "epoch": 1, "loss": 1 / step, "accuracy": 0.5}
        for step in range(1, 9)
        for kind in ("interval", "epoch")
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _read_records(path: Path) -> object:
    """Reads as a run does that resumes, and in the end."""
    logger = MetricsLogger(path.parent)
    logger.set_params({"first_step": 6})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.on_train_begin()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # What was damaged is gone.
        rows, epochs = read_records(path), read_epochs(path)
    with logger.table.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    for name in ("kind", "step", "epoch"):
        if [row[name] for row in table] != [str(row[name]) for row in rows]:
            raise Disagreement(f"metrics.csv has another {name}")
    if any(row["step"] > 6 for row in rows) or [r for r in rows if r["kind"] == "epoch"] != epochs:
        raise Disagreement("rows that will be written again, or other epochs")
    return rows


def _make_index(folder: Path) -> None:
    """A folder of empty pictures, and beside it the list of them that training keeps."""
    root = folder / "data"
    materialize(class_folders("data/images", 3), folder)
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))
    index_folder(root / "images", root / "cache")


def _read_index(path: Path) -> object:
    # The place and the times are part of what the list is valid for.
    (kept,) = (path / "cache").iterdir()
    again = path / "again"
    for folder in (path / "images").glob("*/*"):
        os.utime(folder, (1e9, 1e9))
    index_folder(path / "images", again)
    (name,) = os.listdir(again)
    os.replace(kept, again / name)
    return index_folder(path / "images", again)


def _read_folder(path: Path) -> object:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = load_dataset("folder", path / "images", image_size=8, channels=3)
        with dataset.reading():
            images, labels = next(iter(dataset.train_batches(2, augment=False)))
        check_data(path / "images", workers=2)
    said = [str(w.message) for w in caught if not str(w.message).splitlines()[0].isprintable()]
    if said:
        raise Disagreement(f"a warning has control characters: {said[0]!r}")
    expect_classes(dataset)  # as a run does before its first step
    return {"classes": dataset.class_names, "labels": labels.numpy(), "images": images.numpy()}


# Exported models.


def _make_archive(folder: Path) -> None:
    _make_saved_model(folder)
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        for path in sorted((folder / "module").rglob("*")):
            tar.add(path, path.relative_to(folder / "module"), recursive=False)
    shutil.rmtree(folder / "module")


def _read_archive(path: Path) -> object:
    cache = path.parent / "cache"
    os.environ["TFHUB_CACHE_DIR"] = str(cache)
    with serving(path.read_bytes()) as server:
        try:
            place = module_directory(f"{server.url}/a.tar.gz")
        except ValueError as error:
            raise ValueError(str(error).replace(server.url, "")) from error
        finally:
            beside = {entry.name for entry in path.parent.iterdir()} - {path.name, "cache"}
            if beside or os.path.lexists("/tmp/absolute"):
                raise Disagreement(f"an archive wrote outside of its folder: {beside}")
    return {
        str(entry.relative_to(place)): entry.read_bytes()
        for entry in sorted(place.rglob("*"))
        if entry.is_file() and not entry.is_symlink()
    }


def _make_handles(folder: Path) -> None:
    for number, handle in enumerate(
        ("https://tfhub.dev/google/a/1#x?y", "http://[::1]:80/m", "runs/a[1]/saved_model", "~/m é")
    ):
        (folder / f"{number}.txt").write_text(handle)


def _read_handle(path: Path) -> object:
    handle = path.read_bytes().decode("utf-8", "surrogateescape")
    os.environ["TFHUB_CACHE_DIR"] = str(path.parent / "cache")
    HubLayer.from_config({"handle": handle, "sha256": None})
    raise Disagreement("there is no such module")


def _make_saved_model(folder: Path) -> None:
    export_hub(net(), folder / "module", "classification", labels=LABELS)


def _make_litert(folder: Path) -> None:
    export(net(), folder / "a.tflite", "litert", labels=LABELS)


def _make_onnx(folder: Path) -> None:
    export(net(), folder / "a.onnx", "onnx", labels=LABELS)


def _run(path: Path) -> object:
    model = load_exported(path)
    return {"labels": model.labels, "outputs": model(np.full((2, 8, 8, 3), 7.0))}


def _make_labels(folder: Path) -> None:
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), "utf-8")


_INTO_OTHERS = (ValueError, OSError, DamagedCheckpointError)
READERS = {
    # The readers of pictures hold a whole one, decoded; the number of pixels has to have a limit.
    "images": Reader(_make_images, _read_image, megabytes=1000),
    ".keras": Reader(lambda d: net().save(d / "a.keras"), _read_keras, "bytes", megabytes=300),
    ".keras as weights": Reader(lambda d: net().save(d / "a.keras"), _into_net, "bytes"),
    ".weights.h5": Reader(lambda d: net().save_weights(d / "a.weights.h5"), _into_net),
    "legacy .h5": Reader(lambda d: net().save(d / "a.h5"), _into_net),
    ".safetensors": Reader(_make_safetensors, _into_net),
    ".pth": Reader(lambda d: write_torch(d / "a.pth", _torch_arrays()), _read_torch, "bytes"),
    "legacy .pth": Reader(lambda d: write_legacy(d / "a.pth", _torch_arrays()), _read_torch),
    "checkpoints": Reader(_make_checkpoint, _read_checkpoint, "content", refuses=_INTO_OTHERS),
    "config.json": Reader(_make_object, read_object),
    "metrics.jsonl": Reader(_make_records, _read_records, refuses=()),
    "index of a folder": Reader(_make_index, _read_index),
    "class folders": Reader(
        lambda d: materialize(class_folders("data/images", 3), d), _read_folder, megabytes=300
    ),
    "Hub archives": Reader(_make_archive, _read_archive, "bytes"),
    "Hub handles": Reader(_make_handles, _read_handle, whole=False),
    "SavedModel": Reader(_make_saved_model, _run, "bytes", megabytes=300),
    ".tflite": Reader(_make_litert, _run, "bytes", megabytes=300),
    ".onnx": Reader(_make_onnx, _run, "bytes", megabytes=300),
    "labels.txt": Reader(_make_labels, read_labels),
}


def digest(value: object) -> str:
    """Returns a checksum of a value of numbers, texts and arrays, in lists and dictionaries."""
    total = hashlib.sha256()

    def add(part: object) -> None:
        if isinstance(part, dict):
            for key in part:
                add(key)
                add(part[key])
        elif isinstance(part, (list, tuple)):
            total.update(f"{len(part)} parts ".encode())
            for inner in part:
                add(inner)
        elif isinstance(part, (np.ndarray, np.generic)):
            total.update(f"{part.dtype.str} {part.shape} ".encode())
            total.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            total.update(repr(part).encode("utf-8", "surrogateescape"))

    add(value)
    return total.hexdigest()
