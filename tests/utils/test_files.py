"""Atomic writing of files and folders."""

import errno
import json
import os
import re

import pytest

from keras_resnet.utils import files
from keras_resnet.utils.files import (
    append_text,
    clear_leftovers,
    naming,
    parse_json,
    replacing,
    write_json,
    write_text,
)


def test_file_is_written_with_its_folder(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "grün\n")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "grün\n"
    assert os.listdir(tmp_path / "a") == ["b.txt"]


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})

    def fail():
        with replacing(tmp_path / "x.json") as temporary:
            temporary.write_text("half of")
            raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        fail()
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_folder_replaces_folder(tmp_path):
    target = tmp_path / "module"
    for text in ("old", "new"):
        with replacing(target) as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["module"]


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    target, synced = tmp_path / "module", []
    monkeypatch.setattr(files, "_sync", lambda path: synced.append((path, target.exists())))
    with replacing(target) as temporary:
        (temporary / "a").mkdir(parents=True)
        (temporary / "a" / "b").write_text("text")
        (temporary / "link").symlink_to("nowhere")
    assert synced[-1] == (tmp_path, True)
    before = {path.relative_to(temporary).as_posix() for path, there in synced[:-1] if not there}
    assert before == {".", "a", "a/b"} and len(synced) == 4


def test_failed_exchange_brings_the_old_folder_back(tmp_path, monkeypatch):
    target = tmp_path / "module"
    target.mkdir()
    (target / "old").write_text("old")
    real = os.replace

    def replace(source, destination):
        if str(destination) == str(target) and "old" not in os.listdir(source):
            raise OSError("no")
        real(source, destination)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="no"), replacing(target) as temporary:
        temporary.mkdir()
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["module"]


def test_what_killed_writers_left_is_cleared(tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    for name in (".writing-a.keras-abc123", ".writing-module-x_1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    # Killed between the two renames: this is the only complete copy.
    old = tmp_path / ".writing-module-x_1.old"
    old.mkdir()
    (old / "saved_model.pb").write_text("whole")
    # Killed after them.
    (tmp_path / ".writing-kept.txt-y.old").mkdir()
    clear_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["kept.txt", "module"]
    assert os.listdir(tmp_path / "module") == ["saved_model.pb"]
    clear_leftovers(tmp_path / "missing")


def test_of_others_only_what_is_old_is_cleared(tmp_path):
    for name in (".writing-m.onnx-old", ".writing-m.onnx-new", ".writing-m-2.onnx-old"):
        (tmp_path / name).mkdir()
        if name.endswith("old"):
            os.utime(tmp_path / name, (0, 0))
    clear_leftovers(tmp_path, "m.onnx", age=3600)
    assert sorted(os.listdir(tmp_path)) == [".writing-m-2.onnx-old", ".writing-m.onnx-new"]


@pytest.mark.parametrize("name", ["n" * 250 + ".txt", "ü" * 125 + ".txt", "n\udcff.txt"], ids=ascii)
def test_names_as_long_as_there_can_be(tmp_path, name):
    write_text(tmp_path / name, "one")
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("two")
        (leftover,) = {*os.listdir(tmp_path)} - {name}
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "two"
    for suffix in ("", ".old"):
        (tmp_path / f"{leftover}{suffix}").mkdir()
    os.remove(tmp_path / name)
    clear_leftovers(tmp_path, "another")
    assert len(os.listdir(tmp_path)) == 2
    clear_leftovers(tmp_path, name)
    assert os.listdir(tmp_path) == [name]


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, FULL), errno.ENOSPC),
        (RuntimeError(f"in C++:\n/tmp/x; {FULL}\n\tFlushing first event."), errno.ENOSPC),
        (ValueError(os.strerror(errno.EROFS)), errno.EROFS),
    ],
    ids=["Python", "TensorFlow", "read-only"],
)
def test_errors_of_a_disk_name_the_file(tmp_path, error, number):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match=re.escape(repr(str(path)))) as caught, replacing(path):
        raise error
    assert caught.value.errno == number and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_the_librarys_own_words_are_kept():
    """They may be about another file."""
    denied = os.strerror(errno.EACCES)
    with pytest.raises(OSError, match="'a.txt'") as caught, naming("a.txt"):
        raise RuntimeError(f"In C++:\n/other/\x1bfile; {denied}")
    assert caught.value.strerror == rf"/other/\x1bfile; {denied}"
    assert (caught.value.errno, caught.value.filename) == (errno.EACCES, "a.txt")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, FULL, "other.txt"),
        OSError(errno.ECONNRESET, "reset"),
        ValueError("another"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_other_errors_are_unchanged(error):
    with pytest.raises(type(error)) as caught, naming("a.txt"):
        raise error
    assert caught.value is error


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_full_disk():
    with pytest.raises(OSError, match="28.*'/dev/full'"):
        append_text("/dev/full", "text")


def test_json_of_files():
    assert parse_json('{"a": [1, null]}') == {"a": [1, None]}
    for text in ("", "[", "[" * 200_000, '{"a":' * 200_000, b"\xff"):
        with pytest.raises(ValueError, match=r"\w"):
            parse_json(text)
