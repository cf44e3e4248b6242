"""Downloads from a server of one's own: resumed, verified, whole or not at all, once for all."""

from __future__ import annotations

import hashlib
import sys
import threading
import urllib.request

import numpy as np
import pytest

from keras_resnet.utils import download
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
    return sorted(file.name for file in path.parent.iterdir())


def fetch(server, path, **options):
    return download.fetch(
        f"{server.url}/weights.h5", path, **{"sha256": SHA256, "wait": 0.01, **options}
    )


def test_whole(server, path):
    assert fetch(server, path) == path
    assert path.read_bytes() == CONTENT
    assert left(path) == ["weights.h5"]
    assert fetch(server, path) == path
    assert server.requests == [None]  # The second time it was there.


def test_progress_is_shown(server, path, capsys):
    fetch(server, path)
    shown = capsys.readouterr().out
    assert f"Downloading {server.url}/weights.h5" in shown
    assert f"{len(CONTENT)}/{len(CONTENT)}" in shown


def test_resumed_within_one_call(server, path):
    server.faults = [1 << 20, "503", 5000]
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1048576-", "bytes=1048576-", "bytes=1053576-"]


def test_resumed_by_a_later_call(server, path):
    server.faults = [1 << 20]
    server.always = "503"
    with pytest.raises(OSError, match=r"cannot be downloaded \(HTTP Error 503") as error:
        fetch(server, path)
    assert "\n" not in str(error.value)
    assert left(path) == ["weights.h5.partial"]
    server.requests.clear()
    server.always = None
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert server.requests == ["bytes=1048576-"]
    assert left(path) == ["weights.h5"]


def test_from_the_start_where_the_server_cannot_resume(server, path):
    server.ranges = False
    server.faults = [1 << 20]
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1048576-"]


@pytest.mark.parametrize("length", ["-1", "many", "", "9" * 5000])
def test_a_length_that_is_none(server, path, length):
    server.length = length
    with pytest.raises(OSError, match="cannot be downloaded .*a Content-Length of ") as error:
        fetch(server, path)
    assert "\n" not in str(error.value) and left(path) == []


@pytest.mark.parametrize(
    "begun", [b"another file", CONTENT, CONTENT + b"more"], ids=["other", "all", "more"]
)
def test_what_is_begun_is_not_trusted(server, path, begun):
    path.parent.mkdir()
    path.with_name("weights.h5.partial").write_bytes(begun)
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert left(path) == ["weights.h5"]


def test_without_a_checksum_nothing_is_taken_up(server, path):
    path.parent.mkdir()
    path.with_name("weights.h5.partial").write_bytes(b"another file")
    assert fetch(server, path, sha256=None).read_bytes() == CONTENT
    assert server.requests == [None]


def test_a_damaged_file_in_the_cache_is_replaced(server, path):
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1])
    fetch(server, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_a_truncated_file(server, path, ranges):
    """The server ends it before its announced length, whenever it is asked."""
    server.ranges = ranges
    server.faults = [1 << 20]
    server.always = 0 if ranges else 1 << 20
    with pytest.raises(OSError, match=r"\(1048576 of 3145728 bytes came\)$") as error:
        fetch(server, path)
    assert "\n" not in str(error.value)
    assert left(path) == []


@pytest.mark.parametrize("checksum", [{"sha256": "0" * 64}, {"sha256": None, "md5": "0" * 32}])
def test_another_checksum(server, path, checksum):
    with pytest.raises(ValueError, match=r"must be a file of (sha256|md5) 000.*deleted") as error:
        fetch(server, path, **checksum)
    assert "\n" not in str(error.value)
    assert left(path) == []


def test_md5(server, path):
    assert fetch(server, path, sha256=None, md5=MD5).read_bytes() == CONTENT


def test_no_such_file(server, path):
    server.always = "404"
    with pytest.raises(OSError, match=r"cannot be downloaded \(HTTP Error 404: Not Found\)"):
        fetch(server, path)
    assert server.requests == [None]  # It will not be there the next time either.
    assert left(path) == []


def test_no_server(server, path):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="cannot be downloaded"):
        download.fetch(url, path, wait=0.01)
    assert left(path) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/file", "weights.h5"])
def test_other_ways(path, url):
    with pytest.raises(ValueError, match="^`url` must begin with 'https://' or 'http://'"):
        download.fetch(url, path)


def test_several_threads_at_once(server, path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(server, path).read_bytes()))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 6
    assert server.requests == [None]
    assert left(path) == ["weights.h5"]


# The downloads alone: TensorFlow would take seconds to import.
ALONE = """
import importlib.util, os, sys, types

keras = types.ModuleType("keras")
keras.config = types.SimpleNamespace(is_interactive_logging_enabled=lambda: False)
bar = types.SimpleNamespace(update=lambda *_, **__: None)
keras.utils = types.SimpleNamespace(Progbar=lambda *_, **__: bar)
sys.modules["keras"] = keras
package = types.ModuleType("keras_resnet")
package.__path__ = [os.path.dirname(os.environ["DOWNLOAD"])]
sys.modules["keras_resnet"] = package
spec = importlib.util.spec_from_file_location("download", os.environ["DOWNLOAD"])
download = importlib.util.module_from_spec(spec)
spec.loader.exec_module(download)
"""
FETCH = """
path = download.fetch(*sys.argv[1:3], sha256=sys.argv[3], wait=0.01)
print(path.stat().st_size)
"""


def test_several_processes_at_once(server, path, subprocess_python):
    server.faults = [100_000] * 5  # so that it takes a while
    results = []

    def run():
        url, environment = f"{server.url}/weights.h5", {"DOWNLOAD": download.__file__}
        results.append(subprocess_python(ALONE + FETCH, url, path, SHA256, env=environment))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [int(result.stdout) for result in results] == [len(CONTENT)] * 3
    assert server.requests.count(None) == 1  # One began, and nobody began again.
    assert len(server.requests) == 6
    assert left(path) == ["weights.h5"]


def test_the_cache_of_keras(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert download.keras_cache("models") == tmp_path / "models"
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.keras_cache("models") == tmp_path / ".keras" / "models"


# --- the Hugging Face hub, by `huggingface_hub` itself ----------------------------------------

FETCH_FROM_HUB = """
sha256 = sys.argv[1] or None
try:
    path = download.fetch_from_hub("timm/resnet18.tv_in1k", "model.safetensors", None, sha256)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
else:
    import hashlib
    print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.fixture
def from_hub(server, tmp_path, subprocess_python):
    """Fetches from `server` as if it was the hub; returns what the process printed."""
    pytest.importorskip("huggingface_hub")
    environment = {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "DOWNLOAD": download.__file__,
    }
    # Whether one uses a proxy is no matter on this machine.
    environment |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}

    def run(sha256="", **more):
        process = subprocess_python(
            ALONE + FETCH_FROM_HUB, sha256, env={**environment, **more}, timeout=60
        )
        return process.stdout.strip()

    return run


def cached(tmp_path):
    blobs = tmp_path / "hub" / "hub" / "models--timm--resnet18.tv_in1k"
    return sorted(file.name for file in blobs.rglob("*") if file.is_file() or file.is_symlink())


def test_hub_resumes_and_keeps(server, from_hub):
    # The package takes up broken connections by pieces of 10 MiB.
    server.content = CONTENT * 4
    sha256 = server.recorded = hashlib.sha256(server.content).hexdigest()
    server.faults = [11 << 20]
    assert from_hub() == sha256
    assert server.requests == [None, "bytes=10485760-"]
    server.requests.clear()
    assert from_hub(sha256, HF_HUB_OFFLINE="1") == sha256
    assert server.requests == []


@pytest.mark.parametrize("pinned", [True, False])
def test_hub_verifies(server, from_hub, tmp_path, pinned):
    """Against the checksum of the table, and where there is none against the hub's own."""
    if not pinned:
        server.recorded = "0" * 64
    printed = from_hub("0" * 64 if pinned else "")
    assert printed.startswith("ValueError: timm/resnet18.tv_in1k/model.safetensors must be a file")
    assert printed.endswith(f"was deleted. Received: sha256 {SHA256}")
    assert "\n" not in printed
    assert [name for name in cached(tmp_path) if name not in ("main", "CACHEDIR.TAG")] == []


def test_hub_has_no_such_file(server, from_hub, tmp_path):
    server.always = "404"
    printed = from_hub()
    assert printed.startswith("OSError: timm/resnet18.tv_in1k/model.safetensors cannot be had from")
    assert "\n" not in printed


def test_hub_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"keras-deep-residual\[weights\]"):
        download.fetch_from_hub("timm/resnet18.tv_in1k", "model.safetensors", None, None)


@pytest.mark.parametrize(
    "place", ["http://elsewhere.org/f", "ftp://elsewhere.org/f", "https://ok.org/f"]
)
def test_no_redirection_leaves_https(place):
    request = urllib.request.Request("https://here.org/f")
    follow = download._StayOnHttps().redirect_request
    if place.startswith("https"):
        assert follow(request, None, 302, "Found", {}, place).full_url == place
        return
    with pytest.raises(ValueError, match=f"leads to {place}, which is not https"):
        follow(request, None, 302, "Found", {}, place)
