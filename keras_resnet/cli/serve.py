"""Serves a trained model over HTTP: encoded images in, their best classes out.

    keras-resnet serve model.keras --port 8000
    curl --data-binary @photo.jpg http://127.0.0.1:8000/predict
    curl --form x=@a.jpg --form x=@b.png http://127.0.0.1:8000/predict

An example to build on, for the same machine or a trusted network. MODEL, the names of the classes
and the preparation of images are those of `keras-resnet predict`. POST /predict takes the bytes of
one image, or several as files of a multipart form, and gives their "labels" and "probabilities" as
JSON, best first. "none" is true where the model was calibrated (evaluate --calibrate) and the best
probability is below its threshold: the image shows none of the classes. An image that cannot be
read has an "error" instead: one that came alone with status 422, among several in its own row with
200. A request that is refused gets an "error", too. GET /health answers while the model is served.
Needs the extra `serve`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from keras_resnet import evaluation
from keras_resnet.cli.arguments import Arguments, parse
from keras_resnet.training.stopping import Terminated
from keras_resnet.utils import checks

# Connections at a time; each may hold the bytes of a request. Further ones get status 503.
CONNECTIONS = 64
# Seconds that requests have to end in once the server is to end.
GRACE = 5


@dataclasses.dataclass(frozen=True)
class Serve(Arguments):
    """Arguments of `keras-resnet serve`.

    Attributes:
        model: A trained model.
        host: Address to listen on; the default takes requests of this machine only.
        port: Port to listen on; 0 for a free one.
        top: Number of best classes to return.
        labels: File with the name of a class on every line; by default those of the model.
        image_size: Side of the images in pixels, or HEIGHTxWIDTH, for a model that takes any size;
            by default what its weights want.
        resize: Shorter side, in pixels, that an image is resized to before its center is cropped;
            by default what the weights want.
        frozen: Whether weights become constants: a model that TensorFlow runs answers sooner on
            some processors, opens seconds later, and takes three times the memory.
        threads: Requests to work on at a time.
        max_images: Largest number of images in a request.
        max_megabytes: Largest size of a request in MiB.
    """

    model: Positional[str]
    host: str = "127.0.0.1"
    port: int = 8000
    top: int = 5
    labels: Path | None = None
    image_size: str | None = None
    resize: int | None = None
    frozen: bool = False
    threads: int = 4
    max_images: int = 64
    max_megabytes: int = 16


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Serves a model until SIGINT or SIGTERM."""
    given = parse(Serve, argv, __doc__, prog)
    for name in ("threads", "max_images", "max_megabytes"):
        checks.integer(name, getattr(given, name))
    if not 0 <= given.port < 2**16:
        raise ValueError(f"`port` must be 0 to 65535. Received: port={given.port}")
    for package in ("starlette", "uvicorn", "python_multipart"):
        checks.import_extra(package, "Servers", "serve")

    classifier = evaluation.predictor.Classifier(
        given.model,
        given.top,
        labels=given.labels,
        image_size=given.image_size,
        resize=given.resize,
        frozen=given.frozen,
    )
    family = socket.AF_INET6 if ":" in given.host else socket.AF_INET
    with (
        socket.create_server((given.host, given.port), family=family) as listener,
        ThreadPoolExecutor(given.threads) as pool,
    ):
        server = make_server(
            classifier, pool, max_images=given.max_images, max_bytes=given.max_megabytes * 2**20
        )
        host = f"[{given.host}]" if ":" in given.host else given.host
        print(f"http://{host}:{listener.getsockname()[1]}/predict; Ctrl-C ends it", flush=True)
        try:
            server.run(sockets=[listener])
        except (KeyboardInterrupt, Terminated) as ended:
            pool.shutdown(wait=False, cancel_futures=True)
            # Python would wait for a request that still runs, however long it takes.
            number = signal.SIGTERM if isinstance(ended, Terminated) else signal.SIGINT
            end = threading.Timer(1, os._exit, [128 + number])
            end.daemon = True
            end.start()
            raise


def make_server(
    classifier: evaluation.predictor.Classifier,
    pool: Executor,
    *,
    max_images: int = 64,
    max_bytes: int = 2**24,
) -> Any:
    """Returns a `uvicorn.Server` of a classifier.

    Args:
        classifier: Names the classes of images.
        pool: Runs the classifier, one request in each of its threads.
        max_images: Largest number of images in a request.
        max_bytes: Largest size of a request.
    """
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException, MultiPartParser
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    class Form(MultiPartParser):
        spool_max_size = 0  # For no limit: what others send is not written to a disk.
        complete = False

        def on_end(self) -> None:
            self.complete = True

    async def predict(request: Request) -> JSONResponse:
        request = Request(request.scope, _limited(request.receive, max_bytes))
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data":
            (row,) = await rows([await request.body()])
            return JSONResponse(row, 422 if "error" in row else 200)
        # Fields that are no files count, too.
        parser = Form(request.headers, request.stream(), max_files=max_images, max_fields=0)
        parts = (await parser.parse()).multi_items()
        if not parser.complete:
            raise MultiPartException("incomplete")
        files = [part.file.read() for _, part in parts if not isinstance(part, str)]
        return JSONResponse({"images": await rows(files)})

    async def rows(images: list[bytes]) -> list[dict]:
        return await asyncio.get_running_loop().run_in_executor(pool, answer, classifier, images)

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    def error(status: int, text: str) -> JSONResponse:
        return JSONResponse({"error": text}, status)

    application = Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
        ],
        exception_handlers={
            HTTPException: lambda _, fault: error(fault.status_code, fault.detail),
            MultiPartException: lambda _, fault: error(400, fault.message),
            # Nobody reads it, but it is no fault of the server that a client hangs up.
            ClientDisconnect: lambda *_: error(400, "incomplete"),
        },
    )
    return uvicorn.Server(
        uvicorn.Config(
            application,
            access_log=False,
            limit_concurrency=CONNECTIONS,
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
            ws="none",
        )
    )


def _limited(receive: Callable[[], Awaitable[Any]], most: int) -> Callable[[], Awaitable[Any]]:
    """Returns a function that receives a request, and refuses it once it has too many bytes."""
    from starlette.exceptions import HTTPException

    received = 0

    async def receive_part() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise HTTPException(413, f"more than {most:,} bytes")
        return message

    return receive_part


def answer(classifier: evaluation.predictor.Classifier, images: Sequence[bytes]) -> list[dict]:
    """Returns labels, probabilities and none, or an error, of every encoded image."""
    rows: list[dict] = []
    pixels = []
    for data in images:
        try:
            pixels.append(classifier.read(data))
            rows.append({})
        except evaluation.predictor.BadImageError as error:
            rows.append({"error": error.fault})
    best = iter(classifier.classify(np.stack(pixels)) if pixels else ())
    for row in rows:
        if not row:
            row["labels"], row["probabilities"] = next(best)
            row["none"] = classifier.shows_none(row["probabilities"])
    return rows
