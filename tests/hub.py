"""A local Hugging Face hub: repositories of files, downloads, and commits by its client."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
from collections.abc import Iterator

from tests.servers import running


class Hub(http.server.ThreadingHTTPServer):
    """Serves repositories as the hub does.

    Attributes:
        repositories: By name, the files of each: content by path.
        commits: The requests to commit: repository, and the lines that the client sent.
        created: The requests to create a repository.
        recorded: Checksums that the hub gives out in place of the true ones, by path.
        large: Suffixes of files that the hub records by their sha256, all others by Git's.
        asked: Paths of all downloads.
        newest: Paths of files that were looked up of the newest commit, without download.
    """

    daemon_threads = True
    commit = "c" * 40

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.commits, self.created, self.recorded = [], [], {}
        self.asked, self.newest = [], []
        self.large = (".safetensors", ".bin", ".keras")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def checksum(self, path: str, content: bytes) -> str:
        if path in self.recorded:
            return self.recorded[path]
        if path.endswith(self.large):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.file(body=False)

    def do_GET(self):
        self.file(body=True)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            request = json.loads(body)
            self.server.created.append(request)
            name = "/".join(filter(None, (request.get("organization"), request["name"])))
            self.server.repositories.setdefault(name, {})
            self.json({"url": f"{self.server.url}/{name}", "name": name, "id": name})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in json.loads(body)["files"]
            ]
            self.json({"files": files})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            lines = [json.loads(line) for line in body.splitlines()]
            self.server.commits.append((found[1], lines))
            for line in lines:
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.repositories[found[1]][line["value"]["path"]] = content
            url = f"{self.server.url}/{found[1]}/commit/{self.server.commit}"
            self.json({"commitUrl": url, "commitOid": self.server.commit, "success": True})
        elif self.path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        else:
            self.send_error(404)

    def file(self, body: bool) -> None:
        server = self.server
        if found := re.fullmatch(r"/api/models/([^/]+/[^/?]+)(/.*)?(\?.*)?", self.path):
            self.json({"id": found[1], "sha": server.commit, "siblings": [], "private": False})
            return
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        files = server.repositories.get(found[1]) if found else None
        content = None if files is None else files.get(found[3])
        if found and (body or found[2] == "main"):
            (server.asked if body else server.newest).append(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if files is None else "EntryNotFound")
            self.send_header("X-Repo-Commit", server.commit)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", server.commit)
        self.send_header("ETag", f'"{server.checksum(found[3], content)}"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    def json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        """Prints nothing."""


def take_for_hub(monkeypatch, url, cache) -> None:
    """Makes `huggingface_hub` take a server for its hub, with a cache of its own."""
    from huggingface_hub import constants

    # Read from the environment when it was imported.
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


@contextlib.contextmanager
def local_hub(monkeypatch, cache) -> Iterator[Hub]:
    """Yields a running hub that `huggingface_hub` takes for its own, with a cache of its own."""
    with running(Hub()) as hub:
        take_for_hub(monkeypatch, hub.url, cache)
        yield hub
