"""Files that are whole or not there, and what reading them refuses."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import unittest.mock
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest

from keras_resnet.training import Checkpoints, TrainingStopped
from keras_resnet.training.checkpoints import (
    Checkpoint,
    DamagedCheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from keras_resnet.utils.files import replacing
from tests.helpers import refused
from tests.utils.zips import overlapping, zipped

ARRAYS = {
    "model/0000": np.arange(6, dtype="float32").reshape(2, 3),
    "step/0000": np.int64(7),
    "flag": np.array(True),
    "empty": np.zeros((0, 2), "float32"),
    "half": np.array([1.5, 1e30, -np.inf], ml_dtypes.bfloat16),
    "one": np.array(0.5, ml_dtypes.bfloat16),
    "eighth": np.array([[1, 2], [-3, 0]], ml_dtypes.float8_e4m3fn),
}


def save(checkpoints: Checkpoints, step: int, settings=None):
    return checkpoints.save(step, {"x": np.full(4, step, "float32")}, settings or {"seed": 0})


def test_round_trip(tmp_path):
    details = {"settings": {"seed": 1}, "best": float("inf"), "text": "é"}
    write_checkpoint(tmp_path / "a.npz", Checkpoint(ARRAYS, details))
    again = read_checkpoint(tmp_path / "a.npz")
    assert again.details == details
    assert again.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(again.arrays[name], array)
        assert again.arrays[name].dtype == np.asarray(array).dtype


def test_without_types_that_numpy_lacks_nothing_is_said_of_types(tmp_path):
    write_checkpoint(tmp_path / "a.npz", Checkpoint({"x": np.zeros(2)}, {"settings": {}}))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert json.loads(file["details"].tobytes()).keys() == {"settings", "sha256"}


def test_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    assert checkpoints.newest({"seed": 0}) is None
    assert checkpoints.last_good() == "there is no checkpoint yet"
    for step in (5, 50, 500):
        save(checkpoints, step)
    names = [path.name for path in checkpoints.paths()]
    assert names == ["step-000000050.npz", "step-000000500.npz"]
    assert checkpoints.newest({"seed": 0}).arrays["x"][0] == 500
    assert "step-000000500.npz" in checkpoints.last_good()


def test_every_damage_is_noticed(tmp_path):
    """Any byte that is cut off or altered either changes nothing that is read, or is noticed."""
    path = tmp_path / "a.npz"
    write_checkpoint(path, Checkpoint(ARRAYS, {"settings": {}}))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:length] for length in rng.integers(0, len(whole), 40)]
    for position in rng.integers(0, len(whole), 200):
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.integers(8)
        damaged.append(changed)
    noticed = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            again = read_checkpoint(path)
        except DamagedCheckpointError:
            noticed += 1
        else:
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(again.arrays[name], array)
    assert noticed > 100


def changed(whole: bytes, **members: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    return zipped(contents | {f"{name}.npy": content for name, content in members.items()})


def tebibyte() -> bytes:
    header, shape = io.BytesIO(), (1 << 38,)
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue() + bytes(16)


def deflated(whole: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    return zipped(contents, zipfile.ZIP_DEFLATED)


DAMAGES = {
    "empty": lambda whole: b"",
    "text": lambda whole: b"not a checkpoint",
    "cut off": lambda whole: whole[:-200],
    "deflated": deflated,
    "overlapping": lambda whole: overlapping(whole, [f"{i}.npy" for i in range(30)]),
    "a tebibyte": lambda whole: changed(whole, x=tebibyte()),
    "a long header": lambda whole: changed(whole, x=b"\x93NUMPY\1\0\xff\x0f" + b" " * 4095),
    "no array": lambda whole: changed(whole, x=b"no array"),
    "another member": lambda whole: changed(whole, y=b"no array"),
    "nested details": lambda whole: changed(whole, details=array_of(b"[" * 100_000)),
    "no object": lambda whole: changed(whole, details=array_of(b"[]")),
}


def array_of(text: bytes) -> bytes:
    out = io.BytesIO()
    np.save(out, np.frombuffer(text, np.uint8))
    return out.getvalue()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_reported_and_passed_over(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    newest = save(checkpoints, 2)
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    with pytest.warns(UserWarning, match="damaged.*step-000000002") as told:
        assert checkpoints.newest({"seed": 0}).arrays["x"][0] == 1
    assert "\n" not in str(told[0].message) and len(str(told[0].message)) < 2000


def test_damaged_files_are_set_aside_and_do_not_count(tmp_path):
    for step in (10, 20, 30):
        save(Checkpoints(tmp_path, keep=3), step)
    for step in (20, 30):
        (tmp_path / f"step-0000000{step}.npz").write_bytes(b"damaged")
    checkpoints = Checkpoints(tmp_path, keep=2)
    with pytest.warns(UserWarning, match="damaged.*step-0000000"):
        assert checkpoints.newest({"seed": 0}).arrays["x"][0] == 10
    assert checkpoints.last_good().endswith("step-000000010.npz")
    for step in (15, 20):
        save(checkpoints, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000015.npz",
        "step-000000020.npz",
        "step-000000020.npz.damaged",
        "step-000000030.npz.damaged",
    ]
    assert Checkpoints(tmp_path).newest({"seed": 0}).arrays["x"][0] == 20


def test_a_damaged_file_that_the_user_deletes_is_not_missed(tmp_path):
    for step in (10, 20):
        path = save(Checkpoints(tmp_path), step)
    path.write_bytes(b"damaged")
    checkpoints = Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match="damaged.*step-000000020"):
        checkpoints.newest({"seed": 0})
    path.unlink()
    assert save(checkpoints, 20) == path
    names = [path.name for path in checkpoints.paths()]
    assert names == ["step-000000010.npz", "step-000000020.npz"] == sorted(os.listdir(tmp_path))
    assert Checkpoints(tmp_path).newest({"seed": 0}).arrays["x"][0] == 20


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_read_now_is_not_called_damaged(number, tmp_path, monkeypatch):
    error = OSError(number, os.strerror(number), str(save(Checkpoints(tmp_path), 1)))
    monkeypatch.setattr(zipfile, "ZipFile", unittest.mock.Mock(side_effect=error))
    with pytest.raises(OSError, match=os.strerror(number)):
        Checkpoints(tmp_path).newest({"seed": 0})


def test_pickles_are_not_read(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, details=np.array([{"sha256": "x"}], dtype=object))
    with pytest.raises(DamagedCheckpointError, match="object"):
        read_checkpoint(path)


def test_other_settings_are_refused(tmp_path):
    own = {"model": "ResNet20", "drops": (0.5,)}
    save(Checkpoints(tmp_path, config=own), 1)
    for same in (own, {"model": "ResNet20", "added_later": 0}):
        assert Checkpoints(tmp_path, config=same).newest({"seed": 0}) is not None
    for change, seed, *words in (
        ({"model": "ResNet32"}, 0, "model='ResNet32'", "'ResNet20'"),
        ({}, 1, "seed=1"),
        ({"drops": ()}, 0, "drops=[]"),
    ):
        with refused("`checkpoints`", *words):
            Checkpoints(tmp_path, config=own | change).newest({"seed": seed})


def test_a_full_disk_leaves_the_last_good_one(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 1)

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(TrainingStopped, match="step 2 .*space.*step-000000001") as error:
        save(checkpoints, 2)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.npz"]
    assert checkpoints.newest({"seed": 0}).arrays["x"][0] == 1


def test_what_a_killed_run_left_is_cleared(tmp_path):
    with contextlib.suppress(SystemExit), replacing(tmp_path / "step-000000009.npz") as temporary:
        temporary.write_bytes(b"half")
        leftover = temporary.parent
        killed = shutil.copytree(leftover, tmp_path / f"{leftover.name}killed")
        raise SystemExit
    assert not leftover.exists()
    checkpoints = Checkpoints(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoints.newest({}) is None
    save(checkpoints, 1)
    assert not killed.exists()


@pytest.mark.parametrize("name", ["every", "keep"])
def test_bad_arguments(tmp_path, name):
    with refused(f"`{name}`", f"{name}=0"):
        Checkpoints(tmp_path, **{name: 0})
