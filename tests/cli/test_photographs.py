"""From a folder of photographs to predictions over HTTP, by the command lines of docs/images.md."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

from tests.data.helpers import write_folder
from tests.recipes.running import ROOT, run_here

for package in ("starlette", "uvicorn", "python_multipart"):
    pytest.importorskip(package)


@pytest.fixture
def commands():
    """The commands of the example, split."""
    text = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"<!-- example -->\n+```bash\n(.*?)```", text, re.DOTALL)
    lines = example.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line]


def test_photographs_are_trained_exported_served_and_predicted_alike(
    commands, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photographs", load_sample_images().images)
    train, export, predict, serve, curl = commands
    run_here(*train[1:], "--epochs", "1", "--no-export")
    run_here(*export[1:])
    picture = tmp_path / predict[-3]
    (said,) = json.loads(run_here(*predict[1:]))

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve[serve.index("--port") + 1] = str(port)
    server = subprocess.Popen(
        [sys.executable, "-m", "keras_resnet_command", *serve[1:]], cwd=tmp_path, env=None
    )
    try:
        address = curl[-1].replace("8000", str(port))
        answer = asked(address, picture.read_bytes(), server)
    finally:
        server.terminate()
        server.wait(60)
    assert answer["labels"] == said["labels"]
    np.testing.assert_allclose(answer["probabilities"], said["probabilities"], atol=1e-6)

    served = tf.saved_model.load(str(tmp_path / export[3] / "1"))
    # TensorFlow Serving makes the bytes of {"instances": [{"image_bytes": {"b64": ...}}]}.
    images = tf.constant([picture.read_bytes()])
    row = served.signatures["serving_default"](image_bytes=images)
    assert [name.decode() for name in row["classes"][0].numpy()] == said["labels"]
    np.testing.assert_allclose(row["scores"][0], said["probabilities"], atol=1e-5)


def asked(address: str, body: bytes, server: subprocess.Popen) -> dict:
    """Returns the server's answer, as soon as it answers."""
    for _ in range(600):
        assert server.poll() is None
        try:
            with urllib.request.urlopen(urllib.request.Request(address, data=body)) as response:
                return json.load(response)
        except ConnectionRefusedError:
            time.sleep(0.2)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
            time.sleep(0.2)
    raise TimeoutError(address)
