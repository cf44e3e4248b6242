"""Loads `keras-resnet serve` with clients, and compares every answer with `predict`.

    python -m tests.faults.load --minutes 10 --forms hub
    python -m tests.faults.load --minutes 2 --table load

Clients send images of mixed sizes and formats, alone and in batches, broken ones among good ones.
Some hang up in the middle of a request, and some send too much. At the end the server is killed
while it works, and has to come back to the same port and answers. The exit code is 1 if an answer
was wrong, a request failed, or the server took more and more memory.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import keras_resnet
from keras_resnet.evaluation.predictor import predict
from keras_resnet.export import export, export_hub, load_exported
from keras_resnet.utils.files import write_text
from keras_resnet.utils.processes import environment
from keras_resnet.utils.tables import markdown_table, text_table
from tests.data.helpers import encode
from tests.helpers import randomize

FORMS = {
    "keras": "model.keras",
    "hub": "hub",
    "saved_model": "saved_model",
    "litert": "model.tflite",
    "onnx": "model.onnx",
}
# Height and width of images, beside the model's own.
SIZES = ((1, 1), (9, 200), (240, 320), (375, 500), (1200, 1600))
ENCODINGS = (
    {"quality": 90},
    {"progressive": True},
    {"mode": "L"},
    {"form": "PNG"},
    {"form": "PNG", "mode": "L"},
    {"form": "GIF"},
    {"form": "BMP"},
    {"form": "WebP"},
)
# Requests of 100 that hang up, and that are too large.
HANG_UP, TOO_LARGE = 2, 1
# Memory in MB that the server may have more at the end than when it had seen everything once.
GROWTH = 100
# Settings of glibc, which would keep freed memory for its threads instead of giving it back.
RETURNED = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
}
TIMEOUT = 120.0


def make_model(folder: Path, form: str, depth: int, side: int) -> Path:
    """Writes a CIFAR network of RGB images in a form, with labels; its weights are random."""
    keras.utils.set_random_seed(0)
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(keras.Input((side, side, 3)))
    model = keras_resnet.CifarResNet(depth, input_tensor=scaled)
    randomize(model)
    labels = [f"class {i}" for i in range(10)]
    path = folder / FORMS[form]
    if form == "keras":
        model.save(path)
        write_text(folder / "labels.txt", "\n".join(labels))
    elif form == "hub":
        export_hub(model, path, "classification", labels=labels)
    else:
        export(model, path, form, labels=labels)
    return path


def write_images(
    folder: Path, side: int, seed: int = 0, sizes: Sequence[tuple[int, int]] = SIZES
) -> dict[str, list[Path]]:
    """Writes "good" and "broken" images of all sizes and formats."""
    rng, sample = np.random.default_rng(seed), random.Random(seed)
    encoded = []
    for height, width in ((side, side), *sizes):
        for encoding in ENCODINGS:
            # Smooth as photographs are, and not alike.
            colors = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            image = Image.fromarray(colors).resize((width, height), Image.Resampling.BICUBIC)
            encoded.append(encode(np.asarray(image), **encoding))
    broken = [b"", b"/etc/passwd", b"\xff\xd8\xff" + rng.bytes(100), rng.bytes(5000)]
    broken += [data[: sample.randrange(len(data))] for data in sample.sample(encoded, 12)]
    paths: dict[str, list[Path]] = {"good": [], "broken": []}
    for name, images in (("good", encoded), ("broken", broken)):
        (folder / name).mkdir(parents=True)
        for number, data in enumerate(images):
            paths[name].append(folder / name / f"{number}.image")
            paths[name][-1].write_bytes(data)
    return paths


def expect(model: Path, images: dict[str, list[Path]]) -> dict[Path, dict | str]:
    """Returns what `predict` gives for every image: probabilities by label, or its refusal."""
    expected: dict[Path, dict | str] = {}
    opened = load_exported(model)
    for prediction in predict(opened, images["good"], top=10):
        expected[prediction.path] = _by_label(dataclasses.asdict(prediction))
    for path in images["broken"]:
        try:
            (prediction,) = predict(opened, path, top=10)
            expected[path] = _by_label(dataclasses.asdict(prediction))
        except ValueError as error:
            expected[path] = str(error)
    return expected


class Server:
    """A process of `keras-resnet serve`, which listens when this is made.

    Attributes:
        port: Its port.
        seconds: Time that it took to start.
    """

    def __init__(self, model: Path, log: Path, port: int = 0):
        begin = time.monotonic()
        self._log = log
        command = ["keras_resnet_command", "serve", model, "--port", port, "--top", 10]
        with open(log, "ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *map(str, command)],
                env=environment(**RETURNED),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        line = self._process.stdout.readline().decode()
        if not line:
            self._process.wait()
            raise RuntimeError(f"it does not start: {log.read_text()[-500:]}")
        self.port = int(line.partition("/predict")[0].rpartition(":")[2])
        self.seconds = time.monotonic() - begin

    def megabytes(self) -> int:
        """Returns the memory that it has now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) >> 10

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def terminate(self) -> int:
        """Ends it as systems do, and returns its code."""
        self._process.terminate()
        self._process.communicate(timeout=TIMEOUT)
        return self._process.returncode

    def printed(self) -> str:
        return self._log.read_text(errors="replace")


@dataclasses.dataclass
class Tally:
    """What clients saw; lists, which several threads append to."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    images: list[int] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)


class Client:
    """Sends requests, drawn from a seed, until `stop` is set."""

    def __init__(self, port: int, expected: dict[Path, dict | str], tally: Tally, seed: int = 0):
        self._port, self._tally, self._expected = port, tally, expected
        self._random = random.Random(seed)
        self._data = {path: path.read_bytes() for path in expected}
        kinds: dict[bool, list[Path]] = {True: [], False: []}
        for path, answer in expected.items():
            kinds[isinstance(answer, dict)].append(path)
        self._good, self._broken = kinds[True], kinds[False]
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self.stop = threading.Event()

    def run(self) -> None:
        with contextlib.closing(self._connection):
            while not self.stop.is_set():
                kind = self._random.random() * 100
                try:
                    if kind < HANG_UP:
                        self._hang_up()
                    elif kind < HANG_UP + TOO_LARGE:
                        self._too_large()
                    else:
                        self.send(self._draw(), form=self._random.random() < 0.5)
                except (OSError, http.client.HTTPException) as error:
                    if self.stop.is_set():
                        return  # The server was killed.
                    self._tally.failed.append(repr(error))
                    self._connection.close()

    def send(self, paths: list[Path], form: bool) -> None:
        """Sends images in a form, or only the first one without, and compares the answers."""
        body, headers = self._data[paths[0]], {}
        if form:
            body = _form([self._data[path] for path in paths])
            headers["Content-Type"] = f"multipart/form-data; boundary={_BOUNDARY}"
        begin = time.perf_counter()
        self._connection.request("POST", "/predict", body, headers)
        response = self._connection.getresponse()
        content = response.read()
        self._tally.seconds.append(time.perf_counter() - begin)
        if response.status not in ((200,) if form else (200, 422)):
            self._tally.failed.append(f"status {response.status}: {content[:200]!r}")
            return
        answer = json.loads(content)
        answers = answer["images"] if form else [answer]
        paths = paths if form else paths[:1]
        self._tally.images.append(len(paths))
        if len(answers) != len(paths) or (
            not form and ("error" in answer) == (response.status == 200)
        ):
            self._tally.wrong.append(f"{len(answers)} answers, status {response.status}")
        for path, one in zip(paths, answers, strict=False):
            if not same(self._expected[path], one):
                self._tally.wrong.append(f"{path.parent.name}/{path.name}: {one}")

    def send_all(self) -> None:
        """Sends every image alone, and all of them in forms of eight."""
        with contextlib.closing(self._connection):
            paths = list(self._expected)
            for path in paths:
                self.send([path], form=False)
            for first in range(0, len(paths), 8):
                self.send(paths[first : first + 8], form=True)

    def _draw(self) -> list[Path]:
        count = self._random.randint(1, 8)
        kinds = (self._broken if self._random.random() < 0.15 else self._good for _ in range(count))
        # Each once: the largest image three times is more than a request may have.
        return list(dict.fromkeys(self._random.choice(kind) for kind in kinds))

    def _hang_up(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), TIMEOUT) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")
            connection.sendall(b"x" * self._random.randrange(9999))
        self._tally.others.append("hung up")

    def _too_large(self) -> None:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        ) as connection:
            connection.putrequest("POST", "/predict")
            connection.putheader("Content-Length", str(2**40))
            connection.endheaders()
            status = connection.getresponse().status
        if status != 413:
            self._tally.failed.append(f"status {status} for 1 TiB")
        self._tally.others.append("too large")


def load(
    model: Path, expected: dict[Path, dict | str], log: Path, *, seconds: float, clients: int
) -> tuple[dict[str, object], list[str]]:
    """Loads a server of a model, then kills and restarts it.

    Returns:
        A row of the table, and everything that was found, in lines.
    """
    tally, found = Tally(), []
    server = Server(model, log)
    try:
        # What the first images of their kind take is no growth.
        warm = Tally()
        with _running(server.port, expected, warm, clients):
            Client(server.port, expected, warm).send_all()
        begin = server.megabytes()
        with _running(server.port, expected, tally, clients) as stop:
            started = time.monotonic()
            time.sleep(seconds)
            lasted, end = time.monotonic() - started, server.megabytes()
            latencies, others = np.array(tally.seconds), len(tally.others)
            images = sum(tally.images)
            # At work, with clients that wait for it.
            stop()
            server.kill()
        server = Server(model, log, server.port)
        Client(server.port, expected, tally).send_all()
        if (code := server.terminate()) not in (-15, 143):
            found.append(f"code {code} after SIGTERM")
    finally:
        server.kill()
    wrong, failed = warm.wrong + tally.wrong, warm.failed + tally.failed
    found += [f"wrong: {one}" for one in wrong] + [f"failed: {one}" for one in failed]
    if end > begin + GROWTH:
        found.append(f"memory from {begin} to {end} MB")
    if "Traceback" in server.printed():
        found.append(f"a traceback in {log}")
    p50, p95, p99 = np.percentile(1000 * latencies, (50, 95, 99)).round(1)
    row = {
        "clients": clients,
        "minutes": round(lasted / 60, 1),
        "requests": len(latencies),
        "images": images,
        "hung up or too large": others,
        "requests/s": round(len(latencies) / lasted, 1),
        "p50 ms": p50,
        "p95 ms": p95,
        "p99 ms": p99,
        "MB begin": begin,
        "MB end": end,
        "wrong": len(wrong),
        "failed": len(failed),
        "s to restart": round(server.seconds, 1),
    }
    return row, found


@contextlib.contextmanager
def _running(port: int, expected: dict, tally: Tally, count: int) -> Iterator[Callable[[], None]]:
    """Runs clients in threads; yields a function that has them stop after their request."""
    clients = [Client(port, expected, tally, seed) for seed in range(count)]
    threads = [threading.Thread(target=client.run) for client in clients]

    def stop() -> None:
        for client in clients:
            client.stop.set()

    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop()
        for thread in threads:
            thread.join()


_BOUNDARY = "boundary-of-the-images"


def _form(images: list[bytes]) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\n'
    return b"".join(head.encode() + data + b"\r\n" for data in images) + f"--{_BOUNDARY}--".encode()


def _by_label(answer: dict) -> dict[str, float]:
    return dict(zip(answer["labels"], answer["probabilities"], strict=True))


def same(expected: dict | str, answer: dict) -> bool:
    """Returns whether an answer of the server is what `expect` has for the image."""
    if isinstance(expected, str):
        return expected.endswith(f"which is {answer.get('error')}")
    if "error" in answer or answer["probabilities"] != sorted(answer["probabilities"])[::-1]:
        return False
    found = _by_label(answer)
    # Batches of another size round otherwise.
    return found.keys() == expected.keys() and all(
        abs(found[label] - share) < 1e-5 for label, share in expected.items()
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=2.0, help="Time for each form")
    add("--clients", type=int, default=8)
    add(
        "--forms", nargs="+", choices=FORMS, default=list(FORMS), metavar="FORM", help=str([*FORMS])
    )
    add("--depth", type=int, default=20, help="Depth of the CIFAR network")
    add("--side", type=int, default=32, help="Side of its images")
    add("--seed", type=int, default=0, help="Seed of the images")
    add("--table", type=Path, metavar="PATH", help="Writes PATH.md")
    options = parser.parse_args()
    rows, finds = [], 0
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        images = write_images(folder / "images", options.side, options.seed)
        for form in options.forms:
            model = make_model(folder, form, options.depth, options.side)
            row, found = load(
                model,
                expect(model, images),
                folder / f"{form}.log",
                seconds=60 * options.minutes,
                clients=options.clients,
            )
            rows.append({"form": form, **row})
            finds += len(found)
            for one in found[:20]:
                print(f"FOUND  {form}: {one}", flush=True)
            if options.table:
                write_text(options.table.with_suffix(".md"), markdown_table(rows) + "\n")
    print(text_table(rows))
    return int(finds > 0)


if __name__ == "__main__":
    sys.exit(main())
