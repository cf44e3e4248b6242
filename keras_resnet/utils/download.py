"""Downloads from the web and the Hugging Face hub, verified each time before they are used."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import filelock

from keras_resnet.utils import checks


class NoSuchFileError(OSError):
    """A repository of the hub has no file of that name."""


def keras_cache(folder: str) -> Path:
    """Returns a folder of Keras's cache, `KERAS_HOME` or `~/.keras`."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / folder


def fetch(url: str, path: str | Path, checksum: str | None, *, kept: Path | None = None) -> Path:
    """Downloads a file with `keras.utils.get_file`, unless it exists with that checksum.

    Several processes may ask for the same file: one of them downloads it, the others wait. Returns
    `path`, absolute.

    Args:
        url: Address of the file, "https://..." or "http://...".
        path: File to write; its folder is created. An existing file of another checksum, such as a
            partial download of a killed process, is overwritten.
        checksum: Its sha256 or md5, in hexadecimal. With None the file is always downloaded, so
            no other process may use `path` until the call returns.
        kept: File of another program, which may be writing it: copied to `path` if there is no
            file there, and used instead of a download if it has the checksum.

    Raises:
        OSError: If the file cannot be downloaded; without a checksum, also if the server redirects
            from https to another protocol.
        ValueError: If it does not have the checksum; it is deleted then.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"`url` must begin with 'https://' or 'http://'. Received: url={url!r}")
    import keras

    path = Path(path).absolute()
    if checksum is not None and path.is_file() and _digest(path, checksum) == checksum:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{path}.lock"):
        if kept is not None and kept.is_file() and not path.exists():
            shutil.copyfile(kept, path)
        try:
            keras.utils.get_file(
                path.name,
                url if checksum else _redirected(url),
                file_hash=checksum,
                cache_subdir=str(path.parent),
                force_download=checksum is None,
            )
        except Exception as error:  # Keras raises that class itself.
            if checksum is None or not path.exists():  # Keras keeps a file of another checksum.
                raise OSError(f"{url} cannot be downloaded ({checks.first_line(error)})") from error
            raise _deleted(path, url, checksum) from error
    return path


def fetch_from_hub(repository: str, file: str, revision: str | None, sha256: str | None) -> Path:
    """Downloads a file of the Hugging Face hub with `huggingface_hub`, and returns its cached path.

    Mirror, token, cache folder and offline mode are set by the environment variables of that
    package: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_OFFLINE`.

    The repository is such as "timm/resnet18.tv_in1k", `revision` a commit, tag or branch, or None
    for the newest, `sha256` the file's or None for what the hub records: the sha256 of a large
    file, and of a small one Git's own checksum (SHA-1).

    Raises:
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the file cannot be downloaded; a `NoSuchFileError` if there is none.
        ValueError: If it does not have the checksum; it is deleted from the cache then.
    """
    hub = checks.import_extra("huggingface_hub", "Weights of the Hugging Face hub", "weights")
    try:
        path = Path(hub.hf_hub_download(repository, file, revision=revision))
        # In the cache, a file is named by its checksum if the system has symbolic links.
        blob = path.resolve()
        expected = sha256 or _checksum_in(blob.name)
        if expected is None:
            url = hub.hf_hub_url(repository, file, revision=revision)
            expected = _checksum_in(hub.get_hf_file_metadata(url).etag)
    except Exception as error:  # Some are those of its HTTP client.
        kind = NoSuchFileError if _is_missing(hub, error, repository, file, revision) else OSError
        raise kind(
            f"{repository}/{file} cannot be downloaded from the hub ({checks.first_line(error)})"
        ) from error
    if expected is None:
        raise ValueError(
            f"{repository}/{file} must be a file of which the hub records a checksum. Received: a "
            "file that cannot be verified"
        )
    if _digest(blob, expected) != expected:
        damaged = _deleted(blob, f"{repository}/{file}", expected)
        path.unlink(missing_ok=True)
        raise damaged
    return path


def _is_missing(hub: Any, error: Exception, repository: str, file: str, revision: Any) -> bool:
    """Returns whether a repository is known to have no such file, offline too."""
    if isinstance(error, hub.errors.LocalEntryNotFoundError):
        found = hub.try_to_load_from_cache(repository, file, revision=revision)
        return found is not None and not isinstance(found, str)
    return isinstance(error, hub.errors.EntryNotFoundError)


def _checksum_in(text: str | None) -> str | None:
    return text if text and re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", text) else None


def _digest(path: Path, checksum: str) -> str:
    """Returns the checksum of a file by the algorithm of `checksum`."""
    algorithm = _algorithm(checksum)
    with open(path, "rb") as file:
        if algorithm != "sha1":
            return hashlib.file_digest(file, algorithm).hexdigest()
        # Git's: of the content behind its kind and length.
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()


def _algorithm(checksum: str) -> str:
    return {64: "sha256", 40: "sha1"}.get(len(checksum), "md5")


def _deleted(path: Path, name: str, checksum: str) -> ValueError:
    """Deletes a file that does not have its checksum, and returns the error to raise."""
    found, algorithm = _digest(path, checksum), _algorithm(checksum)
    path.unlink()
    return ValueError(
        f"{name} must be a file of {algorithm} {checksum}; it is damaged or another one, and was "
        f"deleted. Received: {algorithm} {found}"
    )


def _redirected(url: str) -> str:
    """Returns the address that a URL redirects to, unless it leaves https."""
    if url.startswith("http://"):
        return url
    opener = urllib.request.build_opener(_StayOnHttps)
    with opener.open(url, timeout=30) as response:
        return response.url


class _StayOnHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, file, code, message, headers, new_url):
        if request.full_url.startswith("https://") and not new_url.startswith("https://"):
            raise ValueError(f"the server redirects to {new_url}, which is not https")
        return super().redirect_request(request, file, code, message, headers, new_url)
