"""Modules from a local server: downloaded once, unpacked safely, or refused in one line."""

from __future__ import annotations

import concurrent.futures
import errno
import gzip
import hashlib
import http.server
import io
import os
import shutil
import tarfile
from pathlib import Path
from unittest.mock import Mock

import keras
import pytest

from keras_resnet.export import HubLayer, handles, trust
from keras_resnet.weights.saving import load_model
from tests.export.conftest import close, features_of, random_images
from tests.helpers import refused
from tests.servers import running


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
    """Serves `content` by path, at first `MODULE` at `handle`, and records the `requests`."""
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        server.daemon_threads = True
        server.content, server.requests = {"/m.tar.gz": MODULE}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.handle = f"{server.url}/m.tar.gz"
        yield server


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
    close(layer(images), expected)
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    server.content.clear()
    loaded = load_model(tmp_path / "model.keras")
    close(loaded(images), expected)
    assert server.requests == ["/net/1?tf-hub-format=compressed"]
    # Where tensorflow_hub looks for it, and nothing else but a lock.
    name = hashlib.sha1(f"{server.url}/net/1".encode()).hexdigest()
    assert kept(cache) == {name, f"{name}.descriptor.txt"}
    # Loading a file downloads nothing.
    shutil.rmtree(cache)
    server.content["/net/1?tf-hub-format=compressed"] = data
    with pytest.raises(ValueError, match=r"HubLayer\('http.*Received: handle") as error:
        load_model(tmp_path / "model.keras")
    assert "\n" not in str(error.value) and len(server.requests) == 1
    # Asking for it once does.
    HubLayer(f"{server.url}/net/1", sha256=hashlib.sha256(data).hexdigest())
    assert load_model(tmp_path / "model.keras").count_params() == loaded.count_params()


@pytest.fixture
def module(feature_vector, tmp_path):
    """The bytes of an archive of the feature vector."""
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as tar:
        tar.add(feature_vector, arcname=".")
    return (tmp_path / "m.tar.gz").read_bytes()


@pytest.mark.parametrize("checksum", [False, True])
def test_a_module_is_verified_whenever_it_is_used(server, cache, module, tmp_path, checksum):
    server.content["/m.tar.gz"] = module
    sha256 = hashlib.sha256(module).hexdigest() if checksum else None
    layer, inputs = HubLayer(server.handle, sha256=sha256), keras.Input((8, 8, 1))
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    place = handles.module_directory(server.handle, sha256)
    for damaged in ("variables/variables.data-00000-of-00001", "saved_model.pb"):
        data = (place / damaged).read_bytes()
        (place / damaged).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with refused("`path`", "HubLayer"):
            load_model(tmp_path / "model.keras")
        before = len(server.requests)
        HubLayer(server.handle, sha256=sha256)
        assert len(server.requests) == before + 1 and (place / damaged).read_bytes() == data
        load_model(tmp_path / "model.keras")
    (place / "variables" / "extra").write_bytes(b"")
    with refused("`path`", "HubLayer"):
        load_model(tmp_path / "model.keras")


def test_a_module_without_a_record_is_for_callers_only(
    server, cache, module, tmp_path, monkeypatch
):
    """As TensorFlow Hub's own library leaves it."""
    server.content["/m.tar.gz"] = module
    layer, inputs = HubLayer(server.handle), keras.Input((8, 8, 1))
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    place = handles.module_directory(server.handle)
    place.with_name(f"{place.name}.descriptor.txt").write_text(f"Module: {server.handle}\n")
    load_model(tmp_path / "model.keras")  # which this process has loaded
    monkeypatch.setattr(trust, "_trusted", set())
    with refused("`path`", "trust_module"):
        load_model(tmp_path / "model.keras")
    handles.trust_module(server.handle)
    load_model(tmp_path / "model.keras")
    assert len(server.requests) == 1


def test_archives_are_asked_for_by_name_or_by_format(server, cache):
    server.content["/b?version=2&tf-hub-format=compressed"] = MODULE
    for handle in ("/m.tar.gz", "/b?version=2"):
        place = handles.module_directory(server.url + handle)
        assert sorted(os.listdir(place)) == ["assets", "saved_model.pb"]
        assert handles.module_directory(server.url + handle) == place
    # The part behind "#" is not sent: it would be one module under two names.
    with refused("`handle`", "/m.tar.gz#a"):
        handles.module_directory(f"{server.handle}#a")
    assert len(server.requests) == 2
    assert handles.module_directory("modules/a#b?c [1]") == Path("modules/a#b?c [1]")


def test_an_unverified_module_is_downloaded_again_for_a_checksum(server, cache):
    handles.module_directory(server.handle)
    for _ in range(2):
        handles.module_directory(server.handle, hashlib.sha256(MODULE).hexdigest())
    assert len(server.requests) == 1  # The checksum was recorded.
    (cache / f"{hashlib.sha1(server.handle.encode()).hexdigest()}.descriptor.txt").unlink()
    handles.module_directory(server.handle, hashlib.sha256(MODULE).hexdigest())
    assert len(server.requests) == 2


LONG_NAME = {"size": 9_000_000_000, "type": tarfile.GNUTYPE_LONGNAME}
LONG_NAME = tarfile.TarInfo("././@LongLink").get_info() | LONG_NAME
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
        gzip.compress(tarfile.TarInfo().create_gnu_header(LONG_NAME, "utf-8", "strict")),
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
        handles.module_directory(server.handle)
    assert "\n" not in str(error.value) and "/m.tar.gz" in str(error.value)
    assert kept(cache) == set() and os.listdir(tmp_path) == ["cache"]
    assert not os.path.exists("/tmp/outside")


@pytest.mark.parametrize(("value", "unit"), [(1, "entries"), (4, "bytes")])
def test_sizes_are_limited(server, cache, monkeypatch, value, unit):
    monkeypatch.setattr(handles, f"UNPACKED_{unit.replace('entries', 'files').upper()}", value)
    with pytest.raises(ValueError, match=f"{value} {unit}"):
        handles.module_directory(server.handle)
    assert kept(cache) == set()


def test_a_full_disk_is_no_fault_of_the_archive(server, cache, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(tarfile, "copyfileobj", Mock(side_effect=full))
    with pytest.raises(OSError, match="No space left on device"):
        handles.module_directory(server.handle)
    assert kept(cache) == set()


def test_a_module_never_stands_under_the_checksum_of_another(server, cache, monkeypatch):
    other = archive(entry("./saved_model.pb", b"\x08\x02\x12\x00"))
    old, new = (hashlib.sha256(data).hexdigest() for data in (MODULE, other))
    handles.module_directory(server.handle, old)

    server.content["/m.tar.gz"] = other
    with monkeypatch.context() as context:
        context.setattr(handles, "write_text", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            handles.module_directory(server.handle, new)
    with pytest.raises(ValueError, match=f"sha256 {old}"):
        handles.module_directory(server.handle, old)


def test_another_checksum_is_refused(server, cache):
    with pytest.raises(ValueError, match="sha256 000") as error:
        handles.module_directory(server.handle, "0" * 64)
    assert "\n" not in str(error.value) and kept(cache) == set()
    for handle, checksum in ((server.url, "abc"), ("/some/module", "0" * 64)):
        with pytest.raises(ValueError, match="`sha256`"):
            handles.module_directory(handle, checksum)


def test_many_at_once_download_once(server, cache):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(handles.module_directory, [server.handle] * 6))
    assert len(set(found)) == 1 and len(server.requests) == 1


@pytest.fixture
def default_cache(monkeypatch, tmp_path):
    """TensorFlow Hub's cache among the temporary files, which is not there yet."""
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    monkeypatch.setattr(handles.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / "tfhub_modules"


def test_the_default_cache_is_tensorflow_hubs(default_cache):
    assert handles.cache_directory() == default_cache
    assert default_cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("whose", ["everybody's", "another user's", "a link"])
def test_a_cache_that_others_can_write_is_not_trusted(default_cache, monkeypatch, tmp_path, whose):
    folder = default_cache
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
    with pytest.raises(ValueError, match="TFHUB_CACHE_DIR.*Received:"):
        handles.module_directory("https://example.org/m")
    # Files that are asked for by name are trusted.
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder))
    assert handles.cache_directory() == folder
