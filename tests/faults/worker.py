"""A process that reads damaged files for the campaign, with limits on its memory and files.

It answers each line of JSON on standard input with one on standard output:
`{"make": READER, "folder": F}` writes whole files, `{"read": READER, "path": P}` reads one. This
module is imported on both sides; the readers, and TensorFlow with them, only in the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from tests.conftest import ENVIRONMENT, FOREIGN, ROOT

# Above what the process has when it is ready; more is refused by the system, and found.
_ADDRESS_SPACE = 6 << 30
_FILE = 1 << 30
# Seconds for TensorFlow's import, and for making the whole files.
_START = 180.0
# Attributes of a reader that its files are judged by.
LIMITS = ("checked", "megabytes", "seconds", "whole")
_MEMORY = ("MemoryError", "bad_alloc", "out of memory", "OOM", "Cannot allocate", "to allocate")


def environment(**more: str) -> dict[str, str]:
    """Returns the environment of a process of the campaign: one thread, no settings of others."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    one = {**dict.fromkeys(threads, "1"), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    return {**inherited, **ENVIRONMENT, **one, "TF_CPP_MIN_LOG_LEVEL": "3", **more}


class Worker:
    """The process, started when it is first asked, and again after it died."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._process: subprocess.Popen | None = None

    @property
    def idle(self) -> bool:
        """Whether there is no process now."""
        return self._process is None

    def ask(self, order: dict, seconds: float) -> dict:
        """Returns the answer; {"died": why} where the process ended or took longer."""
        if self._process is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(self._folder / "stderr.txt", "wb") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.faults.worker"],
                    cwd=self._folder,
                    env=environment(TMPDIR=str(self._folder)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            self._wait(_START)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        return self._wait(seconds)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _wait(self, seconds: float) -> dict:
        stdout = self._process.stdout
        line = stdout.readline() if select.select([stdout], [], [], seconds)[0] else None
        if line:
            return json.loads(line)
        if line is None:
            self.close()
            return {"died": f"no answer in {seconds:g} s", "seconds": seconds}
        code = self._process.wait()
        self.close()
        lines = (self._folder / "stderr.txt").read_text(errors="replace").splitlines()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return {"died": f"the process died of {name}: {' '.join(lines[-1:])[:200]}"}


def _status(field: str) -> int:
    """Returns a field of the process's status, such as its peak memory, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    return 0


def _written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def read(readers, name: str, path: str) -> dict:
    """Reads a file and describes how that ended, in time, memory and bytes written."""
    reader = readers.READERS[name]
    Path("/proc/self/clear_refs").write_text("5")  # The peak of the memory begins anew.
    memory, written, begin = _status("VmRSS"), _written(), time.perf_counter()
    try:
        answer = {"value": reader.read(Path(path))}
    except readers.Disagreement as error:
        answer = {"raised": "Disagreement", "fault": str(error)}
    except Exception as error:
        answer = {"raised": type(error).__name__, "message": str(error)}
        answer["fault"] = _fault(error, reader.refuses)
    answer["seconds"] = time.perf_counter() - begin
    answer["megabytes"] = max(0, _status("VmHWM") - memory) / 2**20
    answer["written"] = (_written() - written) / 2**20
    if "value" in answer:
        answer["value"] = readers.digest(answer["value"])
    return answer


def _fault(error: Exception, refuses: tuple[type[Exception], ...]) -> str | None:
    """Returns what is wrong with an error as a refusal, or None."""
    text, cause = str(error), error
    while cause is not None:
        if isinstance(cause, MemoryError) or any(word in str(cause) for word in _MEMORY):
            return "it asks for more memory than there is"
        cause = cause.__cause__ or cause.__context__
    if not isinstance(error, refuses):
        return f"not an error that is documented, at {_place(error)}"
    if len(text.splitlines()) != 1:
        return f"a message of {len(text.splitlines())} lines"
    if not text.isprintable():
        return "a message with control characters"
    return "a message of more than 2000 letters" if len(text) > 2000 else None


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "keras_resnet" in frame.filename] or frames
    return f"{Path(own[-1].filename).name}: {own[-1].name}"


def main() -> None:
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # What libraries print is no answer.
        from tests.faults import readers

        def answer(value: dict) -> None:
            print(json.dumps(value), file=answers, flush=True)

        limit = _status("VmSize") + _ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Then it is an OSError.
        answer({"ready": True})
        for line in sys.stdin:
            order = json.loads(line)
            if "make" in order:
                reader = readers.READERS[order["make"]]
                reader.make(Path(order["folder"]))
                answer({name: getattr(reader, name) for name in LIMITS})
            else:
                answer(read(readers, order["read"], order["path"]))


if __name__ == "__main__":
    main()
