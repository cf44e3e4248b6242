"""A web server on this machine that misbehaves as it is told to."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterator


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` under every path, as a file of the Hugging Face hub if need be.

    Attributes:
        content: What it serves.
        ranges: Whether it can serve the rest of a file.
        faults: What becomes of the requests that come next: a number of bytes after which the
            connection ends, or the status of an error.
        always: The fault of all others, None for none.
        requests: The range that each GET asked for, or None for all.
        length: The Content-Length that it says a file has; the true one where None.
        recorded: The sha256 that it says the file has, as the hub does.
        pause: Seconds that it takes for each GET.
    """

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.recorded = hashlib.sha256(content).hexdigest()
        self.ranges, self.faults, self.always, self.requests = True, [], None, []
        self.length, self.pause = None, 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        if isinstance(self.server.always, str):
            self.send_error(int(self.server.always))
        else:
            self.head(200, len(self.server.content))

    def do_GET(self):
        server = self.server
        if self.path.startswith("/api/"):  # Nobody asked but a client of the hub for itself.
            self.send_error(404)
            return
        asked = self.headers["Range"]
        server.requests.append(asked)
        time.sleep(server.pause)
        fault = server.faults.pop(0) if server.faults else server.always
        if isinstance(fault, str):
            self.send_error(int(fault))
            return
        size = len(server.content)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        if start and start >= size:
            self.head(416, 0, f"bytes */{size}")
            return
        part = f"bytes {start}-{size - 1}/{size}" if start else None
        self.head(206 if start else 200, size - start, part)
        self.wfile.write(server.content[start : size if fault is None else start + fault])

    def head(self, status, length, part=None):
        self.send_response(status)
        said = self.server.length
        self.send_header("Content-Length", str(length) if said is None else said)
        if part:
            self.send_header("Content-Range", part)
        # What the hub says of a large file: its commit and its sha256.
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("ETag", f'"{self.server.recorded}"')
        self.end_headers()

    def log_message(self, *_):
        """Says nothing."""


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """Yields a running server."""
    with Server(content) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
