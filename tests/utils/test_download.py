"""Downloads from a local server: verified each time, atomically, once for several processes."""

from __future__ import annotations

import concurrent.futures
import hashlib
import sys
import urllib.request
from unittest.mock import Mock

import numpy as np
import pytest

from keras_resnet.utils import download
from tests.helpers import refused
from tests.hub import take_for_hub
from tests.servers import serving

CONTENT = np.random.default_rng(0).bytes(3 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "weights.h5"


def left(path):
    return sorted(file.name for file in path.parent.iterdir() if file.suffix != ".lock")


def fetch(server, path, checksum=SHA256, **options):
    return download.fetch(f"{server.url}/weights.h5", path, checksum, **options)


@pytest.mark.parametrize("checksum", [SHA256, MD5])
def test_downloaded_once(server, path, checksum):
    for _ in range(2):
        assert fetch(server, path, checksum) == path
        assert path.read_bytes() == CONTENT
    assert left(path) == ["weights.h5"]
    assert server.requests == [None]


def test_without_a_checksum_what_is_there_is_not_trusted(server, path):
    path.parent.mkdir()
    path.write_bytes(b"another file")
    assert fetch(server, path, None).read_bytes() == CONTENT


@pytest.mark.parametrize("begun", [b"", CONTENT[:-1], CONTENT + b"more"])
def test_a_damaged_file_in_the_cache_is_replaced(server, path, begun):
    """Such as a partial download of a killed process."""
    path.parent.mkdir()
    path.write_bytes(begun)
    fetch(server, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("checksum", [SHA256, None])
@pytest.mark.parametrize("fault", [1 << 20, "404", "503"])
def test_what_cannot_be_downloaded(server, path, checksum, fault):
    server.always = fault
    with pytest.raises(OSError, match="weights.h5") as error:
        fetch(server, path, checksum)
    reason = "1048576 out of 3145728 bytes" if fault == 1 << 20 else fault
    assert "\n" not in str(error.value) and reason in str(error.value)
    assert left(path) == []


@pytest.mark.parametrize("length", ["-1", "many", "", "9" * 5000])
def test_a_length_that_is_none(server, path, length):
    """The content is used or refused in one line, whatever its Content-Length."""
    server.length = length
    failure = None
    try:
        fetch(server, path)
    except OSError as error:
        failure = str(error)
    if failure is None:
        assert path.read_bytes() == CONTENT
    else:
        assert "\n" not in failure and left(path) == []


@pytest.mark.parametrize("checksum", ["0" * 64, "0" * 32])
def test_another_checksum(server, path, checksum):
    with refused(f"{server.url}/weights.h5", checksum, "deleted"):
        fetch(server, path, checksum)
    assert left(path) == []


def test_no_server(server, path):
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="weights.h5"):
        fetch(server, path)
    assert left(path) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/file", "weights.h5"])
def test_other_ways(path, url):
    with refused("`url`", "https://", url):
        download.fetch(url, path, SHA256)


FETCH = """
import sys
from keras_resnet.utils import download

print(download.fetch(*sys.argv[1:]).stat().st_size)
"""


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_several_at_once(server, path, subprocess_python, where):
    server.pause = 1.0  # so that the others wait for the download

    def size(_):
        if where == "threads":
            return fetch(server, path).stat().st_size
        process = subprocess_python(FETCH, f"{server.url}/weights.h5", path, SHA256)
        return int(process.stdout.split()[-1])

    count = 2 if where == "processes" else 6
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        assert list(pool.map(size, range(count))) == [len(CONTENT)] * count
    assert server.requests == [None]
    assert left(path) == ["weights.h5"]


def test_the_cache_of_keras(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert download.keras_cache("models") == tmp_path / "models"
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.keras_cache("models") == tmp_path / ".keras" / "models"


# --- the Hugging Face hub, by `huggingface_hub` itself ----------------------------------------

HUB_FILE = "timm/resnet18.tv_in1k/model.safetensors"


@pytest.fixture
def from_hub(server, tmp_path, monkeypatch):
    """Fetches from `server` in place of the hub, and returns the checksum or the error."""
    pytest.importorskip("huggingface_hub")
    take_for_hub(monkeypatch, server.url, tmp_path / "hub")

    def run(sha256=None, offline=False):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        repository, file = HUB_FILE.rsplit("/", 1)
        try:
            path = download.fetch_from_hub(repository, file, None, sha256)
        except (OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return run


def cached(tmp_path):
    blobs = tmp_path / "hub" / "models--timm--resnet18.tv_in1k"
    return sorted(file.name for file in blobs.rglob("*") if file.is_file() or file.is_symlink())


def test_hub_resumes_and_keeps(server, from_hub):
    # The package resumes broken connections in chunks of 10 MiB.
    server.content = CONTENT * 4
    sha256 = server.recorded = hashlib.sha256(server.content).hexdigest()
    server.faults = [11 << 20]
    assert from_hub() == sha256
    assert server.requests == [None, "bytes=10485760-"]
    server.requests.clear()
    assert from_hub(sha256, offline=True) == sha256
    assert server.requests == []


@pytest.mark.parametrize("pinned", [True, False])
def test_hub_verifies(server, from_hub, tmp_path, pinned):
    """Against the registered checksum, or else the hub's own."""
    if not pinned:
        server.recorded = "0" * 64
    printed = from_hub("0" * 64 if pinned else None)
    assert printed.startswith(f"ValueError: {HUB_FILE} must be a file")
    assert printed.endswith(f"was deleted. Received: sha256 {SHA256}")
    assert "\n" not in printed
    assert [name for name in cached(tmp_path) if name not in ("main", "CACHEDIR.TAG")] == []


def test_hub_has_no_such_file(server, from_hub):
    server.always = "404"
    printed = from_hub()
    assert printed.startswith(f"OSError: {HUB_FILE} cannot be downloaded") and "\n" not in printed


def test_hub_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"keras-deep-residual\[weights\]"):
        download.fetch_from_hub("timm/resnet18.tv_in1k", "model.safetensors", None, None)


def test_no_redirection_leaves_https():
    request = urllib.request.Request("https://here.org/f"), None, 302, "Found", {}
    follow = download._StayOnHttps().redirect_request
    assert follow(*request, "https://ok.org/f").full_url == "https://ok.org/f"
    for place in ("http://elsewhere.org/f", "ftp://elsewhere.org/f"):
        with pytest.raises(ValueError, match=f"{place}"):
            follow(*request, place)


def test_where_a_download_leads_to_counts_without_a_checksum(server, path, monkeypatch):
    leaves = ValueError("the server redirects to http://elsewhere.org, which is not https")
    monkeypatch.setattr(download, "_redirected", Mock(side_effect=leaves))
    with pytest.raises(OSError, match="http://e"):
        fetch(server, path, None)
    assert left(path) == [] and server.requests == []
    assert fetch(server, path).read_bytes() == CONTENT
