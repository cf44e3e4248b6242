"""Runs at an address: killed and resumed on another machine, failing uploads, the lock."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.cli import export, train
from keras_resnet.data import load_dataset
from keras_resnet.evaluation import open_model
from keras_resnet.evaluation.evaluator import names_of
from keras_resnet.evaluation.predictor import predict
from keras_resnet.experiment import Experiment, mirror, run, run_study
from keras_resnet.experiment.mirror import mirrored
from keras_resnet.experiment.pretrained import with_new_classifier
from keras_resnet.experiment.settings import Network
from keras_resnet.models import ResNet
from keras_resnet.training import Progress, TrainingStopped, read_epochs
from keras_resnet.utils import remote
from keras_resnet.weights import load_weights
from keras_resnet.weights.saving import load_model, save_model
from tests.helpers import assert_same_weights, refused

RUN = "memory://bucket/run"
SETTINGS = {
    "depth": 8,
    "widening": 0.25,
    "per_class": 8,
    "batch_size": 40,
    "epochs": 3,
    "log_every": 1,
    "export": False,
}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """An empty file system in memory; returns a function that begins on another machine."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]

    def other(name):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / name))

    other("first")
    return other


def there(root="/bucket/run"):
    fs = fsspec.filesystem("memory")
    return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


def fill(folder, name, data, tmp_path):
    """Writes a file to a folder of two, on this machine and in memory."""
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / name).write_bytes(data)
    fsspec.filesystem("memory").pipe_file(f"/bucket/{folder}/{name}", data)


def write(one, **files):
    for name, text in files.items():
        (one.folder / name).write_text(text)


def kill(one):
    """Ends a mirror as SIGKILL does: nothing is uploaded, and the lock stays."""
    one._ended.set()
    one.push = one.end = lambda **_: None


def test_killed_and_resumed_on_another_machine_it_ends_as_if_never_interrupted(
    machine, tmp_path, monkeypatch
):
    whole = run(Experiment.from_flat(**SETTINGS, workdir=str(tmp_path / "whole")))
    begin, mirrors = mirror.Mirror.begin, []

    def noted(self):
        mirrors.append(self)
        begin(self)

    monkeypatch.setattr(mirror.Mirror, "begin", noted)

    def on_log(self, step, logs):
        if step == 5 and len(mirrors) == 1:  # behind the second epoch
            kill(mirrors[0])
            raise RuntimeError("killed")

    monkeypatch.setattr(Progress, "on_log", on_log)
    experiment = Experiment.from_flat(**SETTINGS, workdir=RUN)
    with pytest.raises(RuntimeError, match="killed"):
        run(experiment)
    assert {"config.json", "metrics.jsonl", mirror.REMOTE_LOCK} <= there().keys()
    assert "checkpoints/step-000000004.npz" in there() and "model.keras" not in there()

    machine("second")
    with refused("workdir", RUN, mirror.REMOTE_LOCK):
        run(experiment)
    monkeypatch.setattr(mirror, "VOID", 0.0)
    figures = run(experiment)
    folder = remote.cached("runs", RUN)
    assert (tmp_path / "second") in folder.parents
    assert figures["test_loss"] == whole["test_loss"] and figures["steps"] == 6
    for name in ("model.keras", "best.keras"):
        assert_same_weights(load_model(folder / name), load_model(tmp_path / "whole" / name))
    rows = [
        [{**row, "images_per_second": 0, "input_wait": 0} for row in read_epochs(path)]
        for path in (folder / "metrics.jsonl", tmp_path / "whole" / "metrics.jsonl")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 3
    # Everything is at the address, old checkpoints are gone, and nobody has it.
    here = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    assert there().keys() - {mirror.INDEX} == {
        name for name in here if (folder / name).is_file() and name not in (".lock", mirror.INDEX)
    }
    assert {n: d for n, d in there().items() if n != mirror.INDEX}.items() <= here.items()
    assert "checkpoints/step-000000002.npz" not in there()
    assert json.loads(there()["config.json"])["workdir"] == RUN

    # A finished run is read from there, and so is its model.
    machine("third")
    assert run(experiment)["test_loss"] == whole["test_loss"]
    assert_same_weights(
        open_model(f"{RUN}/model.keras"), load_model(tmp_path / "whole" / "model.keras")
    )


def test_images_at_an_address_train_as_local_ones_do(tmp_path):
    digits = load_dataset("digits", per_class=6, classes=(0, 1), image_size=16)
    images, labels, _ = next(iter(digits.eval_batches("train", 12)))
    images, labels = np.asarray(images, "uint8"), np.asarray(labels, "uint8")
    for name, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        fill("idx", f"train-{name}-ubyte", header + array.tobytes(), tmp_path)
    models = []
    for place in (str(tmp_path / "idx"), "memory://bucket/idx"):
        small = {"dataset": "idx", "data_dir": place, "batch_size": 4, "epochs": 1, "export": False}
        workdir = tmp_path / place[:3].strip("/")
        run(Experiment.from_flat(depth=8, widening=0.25, **small, workdir=str(workdir)))
        models.append(workdir / "model.keras")
    assert_same_weights(*map(load_model, models))

    rows = ["path,label"]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder, data = ("zero", "one")[label], tf.io.encode_png(image).numpy()
        fill(f"photos/{folder}", f"{number}.png", data, tmp_path)
        rows.append(f"{folder}/{number}.png,{folder}")
    fill("photos", "list.csv", "\n".join(rows).encode(), tmp_path)
    places = (str(tmp_path / "photos"), "memory://bucket/photos")
    for name, file in (("folder", ""), ("csv", "/list.csv")):
        local, far = (load_dataset(name, place + file) for place in places)
        assert local.identity() == far.identity() and local.name == far.name
        assert sum(far.sizes.values()) == 12
    local, far = (predict(models[0], place) for place in places)
    assert [(one.path.name, one.labels, one.probabilities) for one in local] == [
        (one.path.name, one.labels, one.probabilities) for one in far
    ]
    assert len(far) == 12 and Path(places[0]) not in far[0].path.parents


def test_models_are_read_from_addresses_and_exported_to_them(tmp_path, capsys):
    def small():
        options = {"stem": "cifar", "classes": 2, "weights": None, "include_preprocessing": True}
        return ResNet((1, 1, 1), input_shape=(8, 8, 3), **options)

    model = small()
    save_model(model, tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for name in ("model.keras", "model.weights.h5"):
        fill("init", name, (tmp_path / name).read_bytes(), tmp_path)
    fill("init", "labels.txt", b"cat\ndog\n", tmp_path)
    init = "memory://bucket/init/model"
    assert names_of(open_model(f"{init}.keras")) == ("cat", "dog")
    assert [
        Network(init=f"{init}{kind}").init_is_model for kind in (".keras", ".weights.h5", "")
    ] == [*(True, False, True)]
    fresh = with_new_classifier(f"{init}.keras", (8, 8, 3), 3)
    name = next(layer.name for layer in model.layers if layer.weights)
    np.testing.assert_array_equal(
        fresh.get_layer(name).get_weights()[0], model.get_layer(name).get_weights()[0]
    )
    other = small()
    load_weights(other, f"{init}.weights.h5")
    assert_same_weights(other, model)

    out = "memory://bucket/out/saved"
    export.main([f"{init}.keras", out, "--quiet"])
    assert capsys.readouterr().out.startswith(f"{out}: saved_model")
    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 3)).astype("float32")
    exported = open_model(out)
    assert exported.labels == ("cat", "dog")
    np.testing.assert_allclose(exported(images), model(images), atol=1e-5)
    with refused("out", out):
        export.main([f"{init}.keras", out])


def test_a_failing_upload_loses_nothing(machine, monkeypatch):
    fs, broken = type(fsspec.filesystem("memory")), []
    put_file = fs.put_file

    def put(self, file, path, **options):
        if any(path.endswith(f"-{name}") for name in broken):
            raise ConnectionError("no route\nto host")
        return put_file(self, file, path, **options)

    monkeypatch.setattr(fs, "put_file", put)
    with mirrored(RUN) as one:
        write(one, a="1", b="1")
        one.push()
        write(one, a="2", b="2", c="2")
        broken.append("b")
        with pytest.warns(UserWarning, match=r"memory://bucket/run could not .* \(no route\)"):
            one.push()
        # What came before is there, and whole.
        assert (there()["a"], there()["b"]) == (b"2", b"1") and "c" not in there()
        broken.clear()
        one.push()
        assert (there()["a"], there()["b"], there()["c"]) == (b"2", b"2", b"2")
        write(one, new="2")
        broken.append(mirror.INDEX)
        with pytest.warns(UserWarning, match="tried again"):
            one.push()
        assert "new" in there() and "new" not in json.loads(there()[mirror.INDEX])["files"]
        broken.clear()
        one.push()
        assert json.loads(there()[mirror.INDEX])["files"].keys() == {"a", "b", "c", "new"}
        write(one, a="3")
        broken.append("a")
        with pytest.warns(UserWarning, match="tried again"):
            one.push()
        broken.clear()
    assert there()["a"] == b"3"  # at the end

    def fail_at_the_end():
        with mirrored(RUN) as one:
            write(one, a="4", d="4")
            broken.append("d")

    with pytest.raises(OSError, match=r"everything lies in .*first.*run") as caught:
        fail_at_the_end()
    assert "\n" not in str(caught.value) and (one.folder / "d").read_text() == "4"
    broken.clear()
    with mirrored(RUN) as one:
        assert (one.folder / "d").read_text() == "4"
    assert there()["d"] == b"4"


def test_only_what_has_changed_travels_in_an_order_that_can_be_read(monkeypatch):
    sent, upload = [], remote.upload
    monkeypatch.setattr(
        remote, "upload", lambda fs, file, path: (sent.append(path[12:]), upload(fs, file, path))
    )
    with mirrored(RUN) as one:
        (one.folder / "checkpoints").mkdir()
        write(one, **{"metrics.json": "{}", "metrics.jsonl": "1", "checkpoints/step-2.npz": "1"})
        sent.clear()
        one.push()
        order = ["metrics.jsonl", "checkpoints/step-2.npz", "metrics.json", mirror.INDEX]
        assert sent == order
        sent.clear()
        write(one, **{"metrics.jsonl": "1"})  # the same, written anew
        (one.folder / "checkpoints/step-2.npz").rename(one.folder / "checkpoints/step-4.npz")
        (one.folder / ".writing-x").write_text("")
        one.push()
        assert sent == ["checkpoints/step-4.npz", mirror.INDEX]
        assert "checkpoints/step-2.npz" not in there() and ".writing-x" not in there()


def test_the_newer_copy_counts(machine):
    with mirrored(RUN) as one:
        write(one, a="first", b="first")
    one._hold(first=True)
    machine("second")
    with refused("workdir", RUN), mirrored(RUN):
        pytest.fail("it was allowed")
    machine("first")
    with mirrored(RUN) as one:  # The process of the lock has gone: it was of this machine.
        write(one, c="first")
        kill(one)
    fsspec.filesystem("memory").rm_file(f"/bucket/run/{mirror.REMOTE_LOCK}")
    with mirrored(RUN) as one:
        assert (one.folder / "c").read_text() == "first"  # which was never uploaded
        kill(one)
    fsspec.filesystem("memory").rm_file(f"/bucket/run/{mirror.REMOTE_LOCK}")
    machine("second")
    with mirrored(RUN) as other:
        assert sorted(p.name for p in other.folder.glob("?")) == ["a", "b"]
        write(other, a="second", d="second")
        (other.folder / "b").unlink()
    machine("first")
    with mirrored(RUN) as one:
        found = {p.name: p.read_text() for p in one.folder.glob("?")}
        assert found == {"a": "second", "d": "second"}
    # Where the address was emptied, it is not filled again by surprise.
    fsspec.filesystem("memory").rm("/bucket/run", recursive=True)
    with refused("workdir", RUN, str(one.folder)), mirrored(RUN):
        pytest.fail("it was allowed")
    assert there() == {}


@pytest.mark.parametrize("index", [None, b"{}", b"{"])
def test_a_run_that_was_put_there_by_other_means_is_taken(index, tmp_path):
    fill("run/checkpoints", "step-2.npz", b"1", tmp_path)
    fill("run", "config.json", b"{}", tmp_path)
    if index is not None:
        fill("run", mirror.INDEX, index, tmp_path)
    with mirrored(RUN) as one:
        assert (one.folder / "checkpoints/step-2.npz").read_bytes() == b"1"
        (one.folder / "checkpoints/step-2.npz").unlink()
    assert there().keys() == {"config.json", mirror.INDEX}
    with mirrored(RUN) as one:
        assert {p.name for p in one.folder.glob("*.json")} == {"config.json", mirror.INDEX}


def test_an_address_that_another_process_took_ends_training(machine):
    held = {"process": "process 7 on other", "token": "x", "copy": "y", "time": time.time()}

    def lose_the_lock():
        with mirrored(RUN) as one:
            lock = json.dumps(held).encode()
            fsspec.filesystem("memory").pipe_file(f"/bucket/run/{mirror.REMOTE_LOCK}", lock)
            write(one, a="1")
            one.push()

    with pytest.raises(TrainingStopped, match="taken by process 7 on other"):
        lose_the_lock()
    assert json.loads(there()[mirror.REMOTE_LOCK])["token"] == "x" and "a" not in there()


def test_where_nothing_came_nothing_is_left(tmp_path):
    with refused("data_dir"):
        run(Experiment.from_flat(**SETTINGS | {"per_class": None}, dataset="folder", workdir=RUN))
    assert there() == {} and not remote.cached("runs", RUN).exists()
    # Of a command line that has other faults, the address is none.
    with pytest.raises(ValueError, match="epochs") as caught:
        train.main(["--epochs", "0", "--workdir", RUN, "--quiet"])
    assert "workdir" not in str(caught.value)


def test_what_takes_no_address_says_so(monkeypatch):
    experiment = Experiment.from_flat(**SETTINGS, workdir=RUN)
    with refused("workdir", RUN):
        run_study({"one": experiment}, [0], RUN)
    monkeypatch.setenv("TF_CONFIG", "{}")
    with refused("workdir", RUN):
        run(experiment)
    assert np.size(list(there())) == 0
