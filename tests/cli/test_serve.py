"""`keras-resnet serve`: what requests get, good ones and others."""

import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.cli import serve
from keras_resnet.evaluation.predictor import Classifier, predict
from keras_resnet.export import export
from keras_resnet.preprocessing import NONE_OF_THE_CLASSES, Preprocessing
from keras_resnet.weights.saving import save_model
from tests.data.helpers import encode
from tests.helpers import randomize
from tests.recipes.running import ROOT, refused, run_here, save_untrained

for package in ("starlette", "uvicorn", "python_multipart"):
    pytest.importorskip(package)

FORMATS = ("JPEG", "PNG", "BMP", "WebP")
MAX_IMAGES, MAX_BYTES = 5, 2**16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, its labels, and images by name in `images/`."""
    folder = tmp_path_factory.mktemp("served")
    save_untrained(folder, channels=3, labels=("cat", "dog", "élan"))
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number, form in enumerate(FORMATS):
        size = (8, 8) if form == "PNG" else (20 + number, 30)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        (folder / "images" / f"{number}.{form.lower()}").write_bytes(encode(pixels, form))
    return folder


@pytest.fixture(scope="module")
def port(folder):
    """Port of a running server."""
    classifier = Classifier(folder / "model.keras", top=2)
    with (
        concurrent.futures.ThreadPoolExecutor(3) as pool,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        server = serve.make_server(classifier, pool, max_images=MAX_IMAGES, max_bytes=MAX_BYTES)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def ask(port, method="POST", path="/predict", body=None, **headers):
    """Returns status and decoded content of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if text.startswith("{") else text


def form(*files, field='; filename="../../x"'):
    """Returns the arguments of `ask` for files in a multipart form."""
    parts = [b'\r\n--cut\r\nContent-Disposition: form-data; name="image"%b\r\n\r\n%b']
    body = b"".join(parts[0] % (field.encode(), data) for data in files)
    return {"body": body + b"\r\n--cut--\r\n", "Content-Type": "multipart/form-data; boundary=cut"}


@pytest.fixture(scope="module")
def images(folder):
    return [path.read_bytes() for path in sorted((folder / "images").iterdir())]


@pytest.fixture(scope="module")
def expected(folder):
    return [
        (prediction.labels, pytest.approx(prediction.probabilities, abs=1e-6))
        for prediction in predict(folder / "model.keras", folder / "images", top=2)
    ]


def row(answer):
    return tuple(answer["labels"]), tuple(answer["probabilities"])


def test_one_image_gives_what_predict_does(port, images, expected):
    for data, classes in zip(images, expected, strict=True):
        status, answer = ask(port, body=data)
        assert status == 200 and row(answer) == classes


def test_none_of_the_classes_is_the_same_answer_everywhere(tmp_path):
    """By `predict`, by a SavedModel of image files, and served: a black and a white picture."""
    files, images = [], [encode(np.full((8, 8, 3), v, np.uint8), "PNG") for v in (0, 255)]
    for number, data in enumerate(images):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(data)
    prepared = Preprocessing(image_size=8, class_names=("cat", "dog", "élan"))
    options = {"input_shape": (8, 8, 3), "include_preprocessing": prepared, "classes": 3}
    model = randomize(keras_resnet.CifarResNet(8, **options))
    save_model(model, tmp_path / "plain.keras")
    plain = predict(tmp_path / "plain.keras", files, top=3)
    best = [one.probabilities[0] for one in plain]
    assert abs(best[1] - best[0]) > 1e-3
    expected = [share == min(best) for share in best]
    prepared = dataclasses.replace(prepared, threshold=sum(best) / 2)
    model.remember(dataclasses.replace(model.network, preprocessing=prepared))
    save_model(model, tmp_path / "model.keras")
    export(model, tmp_path / "served")

    found = predict(tmp_path / "model.keras", files, top=3)
    assert [one.none for one in found] == expected
    rows = serve.answer(Classifier(tmp_path / "model.keras", top=3), images)
    assert [row["none"] for row in json.loads(json.dumps(rows))] == expected
    signature = tf.saved_model.load(str(tmp_path / "served/1")).signatures["serving_default"]
    served = signature(image_bytes=tf.constant(images))
    served = {name: value.numpy() for name, value in served.items()}
    for i, (one, row, none) in enumerate(zip(found, rows, expected, strict=True)):
        assert (one.labels, one.probabilities) == (row["labels"], row["probabilities"])
        # Scores are what they are without a threshold.
        assert one.probabilities == pytest.approx(plain[i].probabilities, abs=1e-6)
        np.testing.assert_allclose(served["scores"][i], one.probabilities, atol=1e-5)
        names = tuple(name.decode() for name in served["classes"][i])
        assert names == (3 * (NONE_OF_THE_CLASSES,) if none else one.labels)
        assert served["error"][i] == b""
    printed = run_here("predict", tmp_path / "model.keras", *files)
    lines = [line for line in printed.splitlines() if line.endswith(NONE_OF_THE_CLASSES)]
    assert lines == [f"{files[expected.index(True)]}  {NONE_OF_THE_CLASSES}"]


_SLOW = """
import sys, time
import keras_resnet_command
from keras_resnet.cli import serve
def answer(classifier, images):
    print("at work", flush=True)
    time.sleep(100)
serve.answer = answer
serve.GRACE = 1
sys.argv = ["keras-resnet", "serve", sys.argv[1], "--port", "0"]
keras_resnet_command.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it_while_a_request_runs(folder, number, code):
    command = [sys.executable, "-c", _SLOW, folder / "model.keras"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        port = int(process.stdout.readline().partition("/predict")[0].rpartition(":")[2])
        client = http.client.HTTPConnection("127.0.0.1", port)
        stack.callback(client.close)
        client.request("POST", "/predict", b"x")
        assert process.stdout.readline() == "at work\n"
        process.send_signal(number)
        assert process.wait(timeout=30) == code


def test_a_model_without_threshold_always_shows_a_class(port, images):
    assert ask(port, body=images[0])[1]["none"] is False


def test_a_broken_image_is_an_error_of_its_own_row(port, images, expected):
    assert ask(port, body=images[1][:-20]) == (422, {"error": "truncated"})
    assert ask(port, body=b"") == (422, {"error": "zero-byte"})
    assert ask(port, body=b"/etc/passwd")[0] == 422
    status, answer = ask(port, **form(images[0], b"", images[1][:-20], images[3]))
    first, *broken, last = answer["images"]
    assert status == 200 and broken == [{"error": "zero-byte"}, {"error": "truncated"}]
    assert [row(first), row(last)] == [expected[0], expected[3]]
    assert ask(port, **form(b"")) == (200, {"images": [{"error": "zero-byte"}]})


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET", "path": "/health"}, 200),
        ({"method": "GET"}, 405),
        ({"method": "GET", "path": "/../../etc/passwd"}, 404),
        ({"body": b"x" * (MAX_BYTES + 1)}, 413),
        ({"body": [b"x" * 2**12] * 17}, 413),  # In chunks, without a length.
        (form(b"x" * MAX_BYTES), 413),
        (form(*[b"x"] * MAX_IMAGES), 200),
        (form(*[b"x"] * (MAX_IMAGES + 1)), 400),
        (form(b"/etc/passwd", field=""), 400),
        ({**form(b"x"), "body": form(b"x", b"x")["body"][:-10]}, 400),
        ({"body": b"--cut", "Content-Type": "multipart/form-data"}, 400),
        ({"body": b"--x\r\n:\r\n", "Content-Type": "multipart/form-data; boundary=cut"}, 400),
    ],
)
def test_status(port, request_, status):
    found, content = ask(port, **request_)
    assert found == status
    if status != 200:
        assert content.keys() == {"error"}


def test_requests_at_a_time_get_their_own_answers(port, images, expected):
    orders = [np.random.default_rng(seed).permutation(4)[: 1 + seed % 4] for seed in range(24)]
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        answers = clients.map(lambda order: ask(port, **form(*(images[i] for i in order))), orders)
    for order, (status, answer) in zip(orders, answers, strict=True):
        assert status == 200
        assert [row(one) for one in answer["images"]] == [expected[i] for i in order]


def test_a_client_that_hangs_up_is_no_fault(port, images, caplog):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
    assert ask(port, body=images[0])[0] == 200
    assert not caplog.records


def test_wrong_flag_is_one_line(folder):
    model = folder / "model.keras"
    for flags, named in (
        ([folder / "none.keras"], "none.keras"),
        ([model, "--port", 65536], "port=65536"),
        ([model, "--threads", 0], "threads=0"),
        ([model, "--max-megabytes", 0], "max_megabytes=0"),
        ([model, "--top", 0], "top=0"),
    ):
        refused(named, "serve", *flags)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(str(port), "serve", model, "--port", port)
