"""Modules from a local server: downloaded once, unpacked safely, or refused in one line."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading

import keras
import numpy as np
import pytest

from keras_resnet.export import HubLayer, handles
from keras_resnet.weights.saving import load_model
from tests.export.conftest import features_of, random_images


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.content.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Logs nothing."""


@pytest.fixture
def server():
    """Serves `content` by path, and records the `requests`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.content, server.requests = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """TensorFlow Hub's cache, for one test."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache):
    return {name for name in os.listdir(cache) if not name.endswith(".locked")}


def entry(name, data=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), link
    return info, data


def archive(*entries):
    """Returns the bytes of a .tar.gz of entries."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


MODULE = archive(
    entry("./saved_model.pb", b"\x08\x01\x12\x00"), entry("./assets", kind=tarfile.DIRTYPE)
)


def test_a_module_is_downloaded_once_and_loaded_from_the_cache(
    net, feature_vector, server, cache, tmp_path
):
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as tar:
        tar.add(feature_vector, arcname=".")
    data = (tmp_path / "m.tar.gz").read_bytes()
    server.content["/net/1?tf-hub-format=compressed"] = data
    layer = HubLayer(f"{server.url}/net/1", sha256=hashlib.sha256(data).hexdigest())
    images, inputs = random_images(), keras.Input((8, 8, 1))
    expected = features_of(net)(images * 255)
    np.testing.assert_allclose(layer(images), expected, rtol=1e-5, atol=1e-5)
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    server.content.clear()
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), expected, rtol=1e-5, atol=1e-5)
    assert server.requests == ["/net/1?tf-hub-format=compressed"]
    # Where tensorflow_hub looks for it, and nothing else but a lock.
    name = hashlib.sha1(f"{server.url}/net/1".encode()).hexdigest()
    assert kept(cache) == {name, f"{name}.descriptor.txt"}
    # Loading a file downloads nothing.
    shutil.rmtree(cache)
    server.content["/net/1?tf-hub-format=compressed"] = data
    with pytest.raises(ValueError, match="HubLayer\\('http.*.* first.*not in .*cache") as error:
        load_model(tmp_path / "model.keras")
    assert "\n" not in str(error.value) and len(server.requests) == 1
    # Asking for it once does.
    HubLayer(f"{server.url}/net/1", sha256=hashlib.sha256(data).hexdigest())
    assert load_model(tmp_path / "model.keras").count_params() == loaded.count_params()


def test_archives_are_asked_for_by_name_or_by_format(server, cache):
    server.content = {
        "/a/m.tar.gz": MODULE,
        "/b?version=2&tf-hub-format=compressed": MODULE,
    }
    for handle in ("/a/m.tar.gz", "/b?version=2"):
        place = handles.module_directory(server.url + handle)
        assert sorted(os.listdir(place)) == ["assets", "saved_model.pb"]
        assert handles.module_directory(server.url + handle) == place
    assert len(server.requests) == 2


def test_an_unverified_module_is_downloaded_again_for_a_checksum(server, cache):
    handle = f"{server.url}/m.tar.gz"
    server.content["/m.tar.gz"] = MODULE
    handles.module_directory(handle)
    for _ in range(2):
        handles.module_directory(handle, hashlib.sha256(MODULE).hexdigest())
    assert len(server.requests) == 1  # The checksum was recorded.
    (cache / f"{hashlib.sha1(handle.encode()).hexdigest()}.descriptor.txt").unlink()
    handles.module_directory(handle, hashlib.sha256(MODULE).hexdigest())
    assert len(server.requests) == 2


def long_name_header():
    return {
        **tarfile.TarInfo("././@LongLink").get_info(),
        "size": 9_000_000_000,
        "type": tarfile.GNUTYPE_LONGNAME,
    }


SAVED = entry("saved_model.pb", b"\x08\x01\x12\x00")
UNSAFE = {
    "parent": (archive(SAVED, entry("../outside", b"x")), "'../outside' leads outside"),
    "inner parent": (archive(SAVED, entry("a/../../outside", b"x")), "leads outside"),
    "absolute": (archive(SAVED, entry("/tmp/outside", b"x")), "'/tmp/outside' leads outside"),
    "drive": (archive(SAVED, entry("C:\\outside", b"x")), "leads outside of the module"),
    "symlink": (
        archive(entry("variables", kind=tarfile.SYMTYPE, link="/etc"), SAVED),
        "'variables' is neither a file nor a directory",
    ),
    "hard link": (archive(SAVED, entry("b", kind=tarfile.LNKTYPE, link="/etc/passwd")), "neither"),
    "device": (archive(SAVED, entry("null", kind=tarfile.CHRTYPE)), "neither a file nor"),
    "pipe": (archive(SAVED, entry("pipe", kind=tarfile.FIFOTYPE)), "neither a file nor"),
    "endless name": (
        # tarfile itself reads into memory as much as a GNU header of a long name claims.
        gzip.compress(tarfile.TarInfo().create_gnu_header(long_name_header(), "utf-8", "strict")),
        "a header of it claims 9,000,000,",
    ),
    "file as directory": (archive(SAVED, entry("saved_model.pb/x", b"x")), "whole .tar.gz"),
    "no module": (archive(entry("readme.txt", b"x")), "must hold saved_model.pb"),
    "truncated": (MODULE[:-12], "must be a safe, whole .tar.gz"),
    "no archive": (b"<html>not found</html>", "must be a safe, whole .tar.gz"),
}


@pytest.mark.parametrize("kind", UNSAFE)
def test_unsafe_archives_are_refused_and_leave_nothing(server, cache, tmp_path, kind):
    server.content["/m.tar.gz"], message = UNSAFE[kind]
    with pytest.raises(ValueError, match=message) as error:
        handles.module_directory(f"{server.url}/m.tar.gz")
    assert "\n" not in str(error.value) and "/m.tar.gz" in str(error.value)
    assert kept(cache) == set() and os.listdir(tmp_path) == ["cache"]
    assert not os.path.exists("/tmp/outside")


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("UNPACKED_FILES", 1, "it has more than 1 entries"),
        ("UNPACKED_BYTES", 4, "it has more than 4 bytes"),
    ],
)
def test_sizes_are_limited(server, cache, monkeypatch, limit, value, message):
    monkeypatch.setattr(handles, limit, value)
    server.content["/m.tar.gz"] = MODULE
    with pytest.raises(ValueError, match=message):
        handles.module_directory(f"{server.url}/m.tar.gz")
    assert kept(cache) == set()


def test_a_full_disk_is_no_fault_of_the_archive(server, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile, "copyfileobj", full)
    server.content["/m.tar.gz"] = MODULE
    with pytest.raises(OSError, match="No space left on device"):
        handles.module_directory(f"{server.url}/m.tar.gz")
    assert kept(cache) == set()


def test_a_module_never_stands_under_the_checksum_of_another(server, cache, monkeypatch):
    handle = f"{server.url}/m.tar.gz"
    other = archive(entry("./saved_model.pb", b"\x08\x02\x12\x00"))
    old, new = (hashlib.sha256(data).hexdigest() for data in (MODULE, other))
    server.content["/m.tar.gz"] = MODULE
    handles.module_directory(handle, old)

    def killed(*_):
        raise KeyboardInterrupt

    server.content["/m.tar.gz"] = other
    with monkeypatch.context() as context:
        context.setattr(handles, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            handles.module_directory(handle, new)
    with pytest.raises(ValueError, match=f"must be a file of sha256 {old}"):
        handles.module_directory(handle, old)


def test_another_checksum_is_refused(server, cache):
    server.content["/m.tar.gz"] = MODULE
    with pytest.raises(ValueError, match="must be a file of sha256 000") as error:
        handles.module_directory(f"{server.url}/m.tar.gz", "0" * 64)
    assert "\n" not in str(error.value) and kept(cache) == set()
    for handle, checksum in ((server.url, "abc"), ("/some/module", "0" * 64)):
        with pytest.raises(ValueError, match="`sha256`"):
            handles.module_directory(handle, checksum)


def test_many_at_once_download_once(server, cache):
    server.content["/m.tar.gz"] = MODULE
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(handles.module_directory(f"{server.url}/m.tar.gz"))
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1
    assert len(server.requests) == 1


def test_the_default_cache_is_tensorflow_hubs(monkeypatch, tmp_path):
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    monkeypatch.setattr(handles.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / "tfhub_modules"
    assert handles.cache_directory() == folder and folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("whose", ["everybody's", "another user's", "a link"])
def test_a_cache_that_others_can_write_is_not_trusted(monkeypatch, tmp_path, whose):
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    monkeypatch.setattr(handles.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / "tfhub_modules"
    if whose == "a link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
    if whose == "everybody's":
        folder.chmod(0o777)
    elif whose == "another user's" and os.getuid() == 0:
        os.chown(folder, 1234, -1)
    elif whose == "another user's":
        monkeypatch.setattr(os, "getuid", lambda: 1234)
    with pytest.raises(ValueError, match="TFHUB_CACHE_DIR must name a folder of your own"):
        handles.module_directory("https://example.org/m")
    # Files that are asked for by name are trusted.
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder))
    assert handles.cache_directory() == folder
