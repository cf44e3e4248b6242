"""Starts the scripts of this directory in fresh processes, as each strategy needs its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ENVIRONMENT, FOREIGN, ROOT
from tests.training.fakes import free_addresses, tf_config

TIMEOUT = 600


def start(script: str, *arguments, **environment: str) -> subprocess.Popen:
    """Starts a script of this directory; what it prints can be read from `stdout`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)],
        env={**inherited, **ENVIRONMENT, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Waits for a script, and fails with what it printed if it failed."""
    try:
        printed, _ = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == 0, printed[-4000:]
    return printed


def cluster(workers: int) -> list[str]:
    """TF_CONFIG of each worker on this machine."""
    hosts = free_addresses(workers)
    return [tf_config(hosts, index) for index in range(workers)]
