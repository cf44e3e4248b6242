"""Files from the web and from the Hugging Face hub: resumed, verified, safe between processes.

What is being downloaded lies beside its target as `<name>.partial`, and that file is the lock too:
who holds it writes, the others wait and find the finished file. POSIX only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import keras

from keras_resnet.utils.checks import first_line

_CHUNK = 1 << 20
# A server that sends nothing new so often in a row is given up.
_ATTEMPTS = 4
_TIMEOUT = 30.0
_LATER = (408, 425, 429, 500, 502, 503, 504)


class _CutShort(OSError):
    """The server ends the file before its end, as often as it is asked."""


def keras_cache(folder: str) -> Path:
    """Returns a folder of Keras's cache: of `KERAS_HOME`, by default `~/.keras`."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / folder


def fetch(
    url: str,
    path: str | Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    limit: int | None = None,
    kept: Path | None = None,
    wait: float = 1.0,
) -> Path:
    """Downloads a file, unless it is there already, and holds it against its checksum either way.

    A download that was interrupted goes on where it was, if the server allows; with a checksum, in
    a later process too. Several processes may ask for the same file: one of them downloads it.

    Args:
        url: Where the file is, "https://..." or "http://...".
        path: Where it shall lie; its folder is made. It appears whole or not at all.
        sha256: Its checksum, in hexadecimal.
        md5: Its checksum where only this one is known.
        limit: Bytes that it may have at the most.
        kept: Where another program may have it already, and may be writing it: it is copied from
            there if the copy has the checksum, and left as it is in any case.
        wait: Seconds before the second attempt; twice as many before each one after it.

    Returns:
        `path`.

    Raises:
        OSError: If the file cannot be had. What has come is kept for a later call, unless it is
            the server that has no more.
        ValueError: If it is not the file of that checksum, longer than `limit`, or the server leads
            from https to elsewhere; nothing is left of it then.
    """
    path = Path(path)
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"`url` must begin with 'https://' or 'http://'. Received: url={url!r}")
    algorithm, expected = ("sha256", sha256) if sha256 is not None else ("md5", md5)
    if path.is_file() and _fits(path, algorithm, expected):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f"{path.name}.partial")
    with locked(name) as partial:
        if path.is_file():
            if _fits(path, algorithm, expected):  # Another process was quicker.
                name.unlink()
                return path
            path.unlink()
        if expected is None:
            # Nothing would tell if what was begun was another file.
            partial.truncate(0)
        begun = _size(partial) > 0
        if begun or not _copied(kept, partial, name, algorithm, expected):
            _download(url, partial, wait, limit)
        if begun and not _fits(name, algorithm, expected):
            # Perhaps what was there was the beginning of another file.
            partial.truncate(0)
            _download(url, partial, wait, limit)
        if not _fits(name, algorithm, expected):
            found = _digest(name, algorithm)
            name.unlink()
            raise ValueError(
                f"{url} must be a file of {algorithm} {expected}; it is damaged or another one, "
                f"and was deleted. Received: {algorithm} {found}"
            )
        os.fsync(partial.fileno())
        os.replace(name, path)
    return path


def _copied(
    kept: Path | None, partial: BinaryIO, name: Path, algorithm: str, expected: str | None
) -> bool:
    """Whether a copy of another program's file is the one; without a checksum nobody knows."""
    if kept is None or expected is None:
        return False
    try:
        shutil.copyfile(kept, name)
    except OSError:  # It is not there, or not for us to read; or there is no room for it.
        fits = False
    else:
        fits = _fits(name, algorithm, expected)
    if not fits:
        partial.truncate(0)
    return fits


def fetch_from_hub(repository: str, file: str, revision: str | None, sha256: str | None) -> Path:
    """Downloads a file of the Hugging Face hub through `huggingface_hub`, into that one's cache.

    Mirrors, tokens, the place of the cache and work without a network are set as for all that uses
    the package: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_OFFLINE`. It takes up a broken
    connection within the call; after the end of its process it begins anew.

    Args:
        repository: Such as "timm/resnet18.tv_in1k".
        file: Name of a file in it.
        revision: Commit, tag or branch; None for the newest.
        sha256: Checksum of the file; where not given, it is held against the one that the hub
            keeps of every large file.

    Returns:
        Path of the file in the cache.

    Raises:
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the file cannot be had.
        ValueError: If it is not the file of that checksum; it is deleted from the cache then.
    """
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    except ImportError as error:
        raise ImportError(
            "Weights of the Hugging Face hub need the package `huggingface_hub`: "
            "pip install 'keras-deep-residual[weights]'."
        ) from error
    try:
        path = Path(hf_hub_download(repository, file, revision=revision))
        blob = path.resolve()
        # In the cache a large file goes by its sha256, where the system has symbolic links.
        expected = sha256 or _sha256_in(blob.name)
        if expected is None:
            url = hf_hub_url(repository, file, revision=revision)
            expected = _sha256_in(get_hf_file_metadata(url).etag)
    except Exception as error:  # It lets through those of whatever HTTP client it uses.
        raise OSError(
            f"{repository}/{file} cannot be had from the hub ({first_line(error)})"
        ) from error
    if expected is None:
        raise ValueError(
            f"{repository}/{file} must be a file of which the hub keeps a sha256. Received: a file "
            "that cannot be verified"
        )
    if not _fits(blob, "sha256", expected):
        found = _digest(blob, "sha256")
        path.unlink()
        blob.unlink(missing_ok=True)
        raise ValueError(
            f"{repository}/{file} must be a file of sha256 {expected}; it is damaged or another "
            f"one, and was deleted. Received: sha256 {found}"
        )
    return path


def _sha256_in(text: str | None) -> str | None:
    return text if text and re.fullmatch(r"[0-9a-f]{64}", text) else None


@contextlib.contextmanager
def locked(name: Path) -> Iterator[BinaryIO]:
    """Yields a file, open for appending, when no other process has it; deletes it if it is empty.

    Args:
        name: The file; its folder is there.
    """
    file = _locked_file(name)
    while not _is_named(file, name):
        # Who had it has finished or deleted it: the lock is on a file gone by.
        file.close()
        file = _locked_file(name)
    try:
        yield file
    finally:
        if _is_named(file, name) and not _size(file):
            name.unlink()
        file.close()


def _locked_file(name: Path) -> BinaryIO:
    # Unbuffered, so that what has come is in the file whatever happens next.
    file = open(name, "a+b", buffering=0)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _is_named(file: BinaryIO, name: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(name))
    except FileNotFoundError:
        return False


def _download(url: str, partial: BinaryIO, wait: float, limit: int | None) -> None:
    """Appends what is missing of a file, over as many connections as it takes."""
    if keras.config.is_interactive_logging_enabled():
        print(f"Downloading {url}", flush=True)
    in_vain = 0
    while True:
        before = _size(partial)
        try:
            return _append(url, partial, limit)
        except urllib.error.HTTPError as error:
            error.close()
            trouble = error
            if error.code not in _LATER:
                in_vain = _ATTEMPTS
        except (OSError, http.client.HTTPException) as error:
            trouble = error
        in_vain = 1 if _size(partial) > before else in_vain + 1
        if in_vain >= _ATTEMPTS:
            if isinstance(trouble, _CutShort):
                partial.truncate(0)
            raise OSError(f"{url} cannot be downloaded ({first_line(trouble)})") from trouble
        time.sleep(wait * 2 ** (in_vain - 1))


def _append(url: str, partial: BinaryIO, limit: int | None) -> None:
    have = _size(partial)
    # Compressed on the way it could not be continued at a byte of the file.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.build_opener(_StayOnHttps).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        # All of it was there already, or it is another file by now.
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return None
        partial.truncate(0)
        return _append(url, partial, limit)
    with response:
        start = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range") or "")
        if not (response.status == http.client.PARTIAL_CONTENT and start and int(start[1]) == have):
            partial.truncate(0)
            have = 0
        length = response.headers.get("Content-Length")
        if length is not None and not re.fullmatch("[0-9]{1,18}", length):
            raise http.client.HTTPException(f"it has a Content-Length of {length[:20]!r}")
        end = None if length is None else have + int(length)
        _check(url, end or 0, limit, partial)
        verbose = int(keras.config.is_interactive_logging_enabled())
        bar = keras.utils.Progbar(end, verbose=verbose, unit_name="byte")
        while chunk := response.read(_CHUNK):
            if partial.write(chunk) < len(chunk):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            have += len(chunk)
            _check(url, have, limit, partial)
            if have != end:
                bar.update(have)
        bar.update(have, finalize=True)
    if end is not None and have < end:
        raise _CutShort(f"{have} of {end} bytes came")
    return None


class _StayOnHttps(urllib.request.HTTPRedirectHandler):
    """Follows no server from https to elsewhere, at any of several redirections."""

    def redirect_request(self, request, file, code, message, headers, new_url):
        if request.full_url.startswith("https://") and not new_url.startswith("https://"):
            raise ValueError(
                f"{request.full_url} is not downloaded: the server leads to {new_url}, which is "
                "not https"
            )
        return super().redirect_request(request, file, code, message, headers, new_url)


def _check(url: str, size: int, limit: int | None, partial: BinaryIO) -> None:
    """Raises a ValueError, and forgets what has come, where a file is longer than it may be."""
    if limit is not None and size > limit:
        partial.truncate(0)
        raise ValueError(f"{url} is not downloaded: it is longer than the {limit:,} bytes allowed")


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _fits(path: Path, algorithm: str, expected: str | None) -> bool:
    return expected is None or _digest(path, algorithm) == expected
