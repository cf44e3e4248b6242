"""Files at addresses: copies that are brought up to date, atomic writing, errors."""

from __future__ import annotations

import fsspec
import pytest

from keras_resnet.utils import remote
from tests.helpers import refused

BASE = "memory://remote-tests"


@pytest.fixture
def fs(tmp_path, monkeypatch):
    """An empty file system in memory, and a cache of one's own."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    return memory


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gs://bucket/x", True),
        ("memory://x", True),
        ("file:///x", True),
        ("https://host/x", False),
        ("hf://owner/name", False),
        ("folder/x", False),
        ("C:/x", False),
        (None, False),
    ],
)
def test_addresses_are_those_of_remote_file_systems(path, expected):
    assert remote.is_remote(path) is expected


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_only_what_is_new_or_changed_is_copied(fs, kind, tmp_path, monkeypatch, caplog):
    base = BASE if kind == "memory" else f"file://{tmp_path}/there"
    fs, root = fsspec.core.url_to_fs(base)
    fs.makedirs(f"{root}/photos/a")
    fs.makedirs(f"{root}/photos/b")
    for name in ("a/1", "a/2", "b/3"):
        fs.pipe_file(f"{root}/photos/{name}", name.encode())
    read, get_file = [], type(fs).get_file
    monkeypatch.setattr(
        type(fs), "get_file", lambda *a, **o: (read.append(a[1]), get_file(*a, **o))[1]
    )
    caplog.set_level("INFO", "keras_resnet")
    folder = remote.local_copy("data_dir", f"{base}/photos/")
    assert folder.name == "photos" and content(folder) == {n: n for n in ("a/1", "a/2", "b/3")}
    assert len(read) == 3 and f"{base}/photos/: copying 3 files" in caplog.text
    assert remote.local_copy("data_dir", f"{base}/photos") == folder and len(read) == 3
    fs.pipe_file(f"{root}/photos/a/2", b"other")
    fs.rm_file(f"{root}/photos/b/3")
    (folder / "a/1").write_text("cut o")  # of another size than there
    assert remote.local_copy("data_dir", f"{base}/photos") == folder
    assert content(folder) == {"a/1": "a/1", "a/2": "other"} and len(read) == 5


def test_what_was_cut_off_has_no_name_and_what_came_is_kept(fs, monkeypatch):
    for name in "abc":
        fs.pipe_file(f"/remote-tests/{name}", name.encode() * 100)
    get_file, monkey = type(fs).get_file, pytest.MonkeyPatch()

    def cut(self, path, local, **options):
        get_file(self, path, local, **options)
        if path.endswith("b"):
            open(local, "w").close()

    monkey.setattr(type(fs), "get_file", cut)
    monkey.setattr(remote, "_AT_A_TIME", 1)
    with pytest.raises(OSError, match=r"memory://remote-tests cannot be read: b was cut off"):
        remote.local_copy("data_dir", BASE)
    folder = remote.cached("copies", BASE)
    assert "b" not in content(folder) and content(folder)["a"] == "a" * 100
    monkey.undo()
    assert content(remote.local_copy("data_dir", BASE)) == {n: n * 100 for n in "abc"}


def test_a_file_comes_with_those_that_belong_to_it(fs):
    for name in ("model.keras", "labels.txt", "metrics.json"):
        fs.pipe_file(f"/remote-tests/run/{name}", name.encode())
    file = remote.local_copy("path", f"{BASE}/run/model.keras", ["labels.txt", "missing.json"])
    assert file.name == "model.keras"
    found = content(file.parent)
    assert found["model.keras"] == "model.keras" and found["labels.txt"] == "labels.txt"
    assert set(found) == {"model.keras", "labels.txt", ".lock", ".state.json"}


def test_what_is_written_gets_to_its_address_when_it_is_whole(fs):
    with remote.written("out", f"{BASE}/m.onnx", overwrite=False) as path:
        path.write_text("model")
        assert path.name == "m.onnx" and not fs.exists("/remote-tests/m.onnx")
    with remote.written("out", f"{BASE}/saved", overwrite=False) as path:
        (path / "variables").mkdir(parents=True)
        (path / "variables" / "v").write_text("1")
        (path / "saved_model.pb").write_text("2")
    files = ["m.onnx", "saved/saved_model.pb", "saved/variables/v"]
    assert fs.find("/remote-tests") == [f"/remote-tests/{name}" for name in files]
    for name in ("m.onnx", "saved"):
        with (
            refused("out", f"{BASE}/{name}"),
            remote.written("out", f"{BASE}/{name}", overwrite=False),
        ):
            pytest.fail("it was allowed")
    with pytest.raises(ZeroDivisionError), remote.written("out", f"{BASE}/n", overwrite=True):
        raise ZeroDivisionError
    with remote.written("out", f"{BASE}/m.onnx", overwrite=True) as path:
        path.write_text("other")
    assert fs.cat_file("/remote-tests/m.onnx") == b"other" and not fs.exists("/remote-tests/n")


def test_what_cannot_be_read_is_named(fs, monkeypatch):
    with refused("data_dir", "nothing://bucket"):
        remote.local_copy("data_dir", "nothing://bucket")
    with refused("data_dir", f"{BASE}/missing"):
        remote.local_copy("data_dir", f"{BASE}/missing")

    def without(*_, **__):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without)
    with pytest.raises(ImportError, match=r"`init` 'gs://b/x': Please install gcsfs") as caught:
        remote.local_copy("init", "gs://b/x")
    assert "\n" not in str(caught.value)


def test_no_name_leads_out_of_the_copy(fs, monkeypatch):
    found = {"/remote-tests/../../x": {"size": 1}}
    monkeypatch.setattr(type(fs), "find", lambda *_, **__: found)
    with refused("..", "/remote-tests/../../x"):
        remote.local_copy("data_dir", BASE)
