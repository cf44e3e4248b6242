"""What is wrong is named before a run begins; a folder is of one run, on the same data."""

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import unittest.mock
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.data import load_dataset
from keras_resnet.experiment import Experiment, preflight, run, runner, workdir
from keras_resnet.experiment.workdir import in_use
from tests.helpers import refused
from tests.recipes.running import run_here


def write_pictures(root, **counts):
    """Writes so many 4x4 images into each folder, such as `train_a` for train/a; returns root."""
    random = np.random.default_rng(0)
    for place, count in counts.items():
        folder = root.joinpath(*place.split("_"))
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(random.integers(0, 255, (4, 4, 3), np.uint8)).save(folder / f"{i}.png")
    return root


def experiment(data_dir, folder, **settings):
    """Returns an experiment of two steps on 4x4 images, whose last map is one pixel."""
    options = {"image_size": 4, "batch_size": 4, "steps": 2, "export": False}
    # All images of train/ for training.
    options |= {"val_split": 0.0, "test_split": 0.0}
    options |= {"depth": 8, "dataset": "folder", "data_dir": str(data_dir)}
    return Experiment.from_flat(**options | {"workdir": str(folder)} | settings)


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "pictures", train_a=4, train_b=4)


def test_all_that_is_wrong_is_named_by_one_start(tmp_path):
    flags = {"version": "v9", "shortcut": "Q", "mixup": -1, "label-smoothing": 1, "workdir": ""}
    flags |= {"depth": 20, "widening": 0, "dataset": "folder", "data-dir": tmp_path / "none"}
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    with contextlib.redirect_stderr(io.StringIO()) as errors, pytest.raises(SystemExit) as exit:
        run_here("train", *words)
    assert exit.value.code == 2
    lines = errors.getvalue().splitlines()
    assert all(line.startswith("error: `") and "Received: " in line for line in lines)
    named = {line.split("`")[1] for line in lines}
    assert named == {*(name.replace("-", "_") for name in flags)} - {"dataset", "depth"}
    assert len(lines) == len(named)


def rename(source, target):
    return lambda root: os.rename(root / source, os.fsencode(root) + b"/" + target)


@pytest.mark.parametrize(
    ("change", "settings", "named"),
    [
        (lambda root: shutil.rmtree(root / "train" / "b"), {}, "`dataset` must have at least two"),
        (rename("train/b", b"train/b\nc"), {}, r"`class_names`: 'b\nc'"),
        (rename("train/b", b"train/b\x1b[2J"), {}, r"`class_names`: 'b\x1b[2J'"),
        (rename("train/b", b"train/\xff"), {}, r"`class_names`: '\udcff'"),
        (lambda root: write_pictures(root, val_a=1, Valid_a=1), {}, "`data_dir`: 'Valid'"),
        (None, {"validation_split": "test"}, "`validation_split`: 'test'"),
        (None, {"batch_size": 9}, "`batch_size`: 9"),
        (None, {"batch_size": 1}, "`batch_size` one pixel: 1"),
        (None, {"batch_size": 4, "micro_batches": 4}, "`batch_size` one pixel: 4"),
        (None, {"micro_batches": 3}, "`micro_batches`: 3"),
        (None, {"image_size": 3}, "`image_size`: (3, 3, 3)"),
        (None, {"depth": 9}, "`depth`: 9"),
        (None, {"gpus": 99}, "`gpus`: 99"),
        (None, {"monitor": "ema_val_loss", "val_split": 0.5}, "`monitor`: 'ema_val_loss'"),
        (None, {"monitor": "val_macro_f1", "val_split": 0.5}, "`monitor`: 'val_macro_f1'"),
        (None, {"depth": None, "init": "no.keras"}, "`init`: 'no.keras'"),
        (None, {"workdir": "{root}/train/a/0.png"}, "`workdir`: is a file"),
        (None, {"workdir": "{root}/train/a/0.png/runs"}, "`workdir`: is a file"),
    ],
)
def test_one_line_before_anything_is_written(change, settings, named, pictures, tmp_path):
    if change:
        change(pictures)
    if "workdir" in settings:
        settings = {"workdir": settings["workdir"].format(root=pictures)}
    words = named.split(" ", 1)[0].rstrip(":"), named.rpartition(": ")[2]
    with refused(*words):
        run(experiment(pictures, tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()


def test_without_the_devices_nothing_is_said_of_the_data(tmp_path):
    with pytest.raises(ValueError, match=r"\A`gpus` .*Received: gpus=99\Z"):
        run(experiment(tmp_path / "none", tmp_path / "run", gpus=99))


def test_a_batch_of_one_on_maps_of_one_pixel_of_a_given_network(pictures, tmp_path):
    net = keras_resnet.CifarResNet(8, input_shape=(4, 4, 3), include_preprocessing=True)
    net.save(tmp_path / "net.keras")
    given = {"depth": None, "init": str(tmp_path / "net.keras"), "batch_size": 1}
    with refused("`batch_size`", "one pixel", "batch_size=1"):
        run(experiment(pictures, tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["", " ", "/"])
def test_a_folder_has_a_name(name):
    with refused("`workdir`", repr(name)):
        Experiment.from_flat(workdir=name)


def test_a_tilde_is_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    flat = Experiment.from_flat(workdir="~/run", data_dir="~/data").flat()
    assert (flat["workdir"], flat["data_dir"]) == ("/home/someone/run", "/home/someone/data")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns the data, the folder and the figures of a run on training images only."""
    root = tmp_path_factory.mktemp("finished")
    data = write_pictures(root / "data", train_a=4, train_b=4)
    # TensorFlow would read brackets as a pattern.
    folder = root / "a[1]"
    return data, folder, run(experiment(data, folder, steps=3, export=True))


def test_a_folder_of_training_images_only_makes_a_model(finished, tmp_path, logged):
    data, folder, metrics = finished
    assert (metrics["split"], metrics["train_images"], metrics["epochs"]) == ("train", 8, 2)
    model = keras.models.load_model(folder / "model.keras")
    images, labels, _ = next(
        iter(
            load_dataset("folder", data, image_size=4, val_split=0, test_split=0).eval_batches(
                "train", 8
            )
        )
    )
    right = np.argmax(model(np.asarray(images, "float32")), axis=1) == labels.numpy()
    assert metrics["train_accuracy"] == pytest.approx(np.mean(right))
    # Elsewhere the same data are the same.
    moved = shutil.copytree(data, tmp_path / "moved")
    assert run(experiment(moved, folder, steps=3, export=True)) == metrics
    assert "nothing to do" in logged()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda root: (root / "train" / "b").rename(root / "train" / "c"), "class names"),
        (lambda root: (root / "train" / "b" / "1.png").unlink(), "images {'train': 8}"),
        (lambda root: (root / "train/b/1.png").rename(root / "train/b/9.png"), "digest"),
        (lambda root: write_pictures(root, val_a=1), "'validation': 1"),
    ],
)
def test_a_run_is_of_one_set_of_data(change, named, finished, tmp_path):
    data = shutil.copytree(finished[0], tmp_path / "data")
    change(data)
    folder = shutil.copytree(finished[1], tmp_path / "run")
    for _ in range(2):  # finished, and not
        with refused("`workdir`", named, str(folder)):
            run(experiment(data, folder, steps=3, export=True))
        (folder / "metrics.json").unlink(missing_ok=True)


@pytest.mark.parametrize("rows", [None, '{"kind": "epoch"\n{"kind": "epoch", "step": 2, "e'])
def test_lost_rows_of_metrics_do_not_lose_the_run(rows, finished, tmp_path):
    data, folder, metrics = finished
    folder = shutil.copytree(folder, tmp_path / "run")
    # An older run has no data.json.
    for name in ("metrics.json", "metrics.jsonl", "learning_curve.png", "model.keras", "data.json"):
        (folder / name).unlink()
    if rows is not None:
        (folder / "metrics.jsonl").write_text(rows)
    with pytest.warns(UserWarning, match="learning|curve"):
        again = run(experiment(data, folder, steps=3, export=True))
    for name in ("train_accuracy", "train_loss", "epochs", "steps"):
        assert again[name] == pytest.approx(metrics[name], rel=1e-6)
    assert (folder / "model.keras").exists() and (folder / "data.json").exists()
    assert json.loads((folder / "metrics.json").read_text()) == again


HOLD = """
import sys, time
from pathlib import Path
from keras_resnet.experiment.workdir import in_use
with in_use(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(600)
"""


def test_a_folder_is_in_use_until_its_process_ends(pictures, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        monkeypatch.setattr(workdir, "PATIENCE", 0.1)
        for _ in range(2):
            with refused("`workdir`", f"in use by process {holder.pid} since 2"):
                run(experiment(pictures, folder))
    finally:
        holder.kill()
        holder.wait()
    assert [path.name for path in folder.iterdir()] == [workdir.LOCK]
    with in_use(folder):
        for _ in range(2):
            with in_use(Path(folder)):
                assert f"process {os.getpid()} since" in (folder / workdir.LOCK).read_text()
            assert [path.name for path in folder.iterdir()] == [workdir.LOCK]
            with refused("`workdir`", f"in use by process {os.getpid()} since 2"):
                other_process(folder)
    assert list(folder.iterdir()) == []


def other_process(folder):
    """Takes a folder in another process, and raises the error that it ends with."""
    code = f"{HOLD.partition('with')[0]}\nwith in_use(Path(sys.argv[1])): pass"
    ended = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    if ended.returncode:
        raise ValueError(ended.stderr.splitlines()[-1])


NO_LOCKS = """
import errno, fcntl
def no_locks(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = no_locks
"""


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_folder_on_a_file_system_without_locks(tmp_path, monkeypatch):
    """There the file is the lock, and what a killed process leaves is recognized."""
    folder = tmp_path / "run"
    command = [sys.executable, "-c", NO_LOCKS + HOLD, folder]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        holder.stdout.readline()
        no_locks = unittest.mock.Mock(side_effect=OSError(errno.ENOSYS, "no locks"))
        monkeypatch.setattr(fcntl, "flock", no_locks)
        monkeypatch.setattr(workdir, "PATIENCE", 0.1)
        with refused("`workdir`", f"in use by process {holder.pid}"), in_use(folder):
            pass
    finally:
        holder.kill()
        holder.wait()
    with in_use(folder), in_use(folder):
        assert (folder / workdir.LOCK).read_text().startswith(f"{os.getpid()}\n")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("config.json", {"seed": 1}, "another seed"),
        ("config.json", {}, "--no-resume"),
        ("data.json", {"class_names": ["x", "y"]}, "other data"),
    ],
)
def test_a_folder_that_another_process_used_meanwhile(
    name, content, named, pictures, tmp_path, monkeypatch
):
    """Between the first look at it and the lock, a whole run may come into it."""
    one = experiment(pictures, tmp_path / "run", resume=False)

    def meanwhile(*arguments):
        prepared = preflight.prepare(*arguments)
        with in_use(tmp_path / "run"):
            held = one.of_the_result() if name == "config.json" else {}
            (tmp_path / "run" / name).write_text(json.dumps(held | content))
        return prepared

    monkeypatch.setattr(runner, "prepare", meanwhile)
    with refused("`workdir`", named):
        run(one)
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {workdir.LOCK, name}
