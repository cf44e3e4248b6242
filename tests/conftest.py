"""Environment of all tests: quiet and reproducible, with a fixture for subprocesses."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Read when TensorFlow and Keras are imported, so set before any test module is.
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    # The default depends on the processor: all machines run the kernels that the recipes run.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "KERAS_BACKEND": "tensorflow",
    "MPLBACKEND": "agg",
}
if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers run in parallel already; a thread pool each would oversubscribe the cores.
    ENVIRONMENT |= {
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
    }
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

# Prefixes of settings of Python, Keras and its backends that a subprocess does not inherit.
FOREIGN = ("CUDA_VISIBLE", "JAX_", "KERAS_", "PYTEST_", "PYTHON", "SLURM_", "TF_", "XLA_")


@pytest.fixture(autouse=True)
def fresh_keras():
    """Seeds every test alike, and resets the global settings of Keras after it."""
    import keras

    keras.utils.set_random_seed(0)
    yield
    logging.getLogger("keras_resnet").setLevel(logging.NOTSET)
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    # Resets layer names; a garbage collection would take longer than most tests.
    keras.utils.clear_session(free_memory=False)


@pytest.fixture(autouse=True, scope="session")
def report_run():
    """Leaves out the report of runs in this process, which takes seconds each; returns it."""
    from keras_resnet.experiment import page

    original = page.report_run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "report_run", lambda *_, **__: None)
        yield original


@pytest.fixture
def no_draws(monkeypatch):
    """Draws zeros in place of random kernels, since 1e8 numbers take seconds."""
    import keras

    def zeros(self, shape, dtype=None, **kwargs):
        return keras.ops.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)


@pytest.fixture
def subprocess_python(tmp_path):
    """Runs a script in a Python subprocess, in an empty directory.

    `run(script, *args, env=None, timeout=120, check=True)` takes source code, or the `Path` of a
    script, and returns the `CompletedProcess` with its output as text. The process sees this
    checkout and none of the caller's settings of Keras and its backends but those of
    `ENVIRONMENT`, which `env` overrides. With `check`, an exit code other than 0 fails the test.
    """

    def run(script: str | Path, *args, env=None, timeout=120.0, check=True):
        command = [sys.executable, *([script] if isinstance(script, Path) else ["-c", script])]
        command = [str(part) for part in (*command, *args)]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**inherited, **ENVIRONMENT, "PYTHONPATH": str(ROOT), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A new process group, so that a timeout also ends the script's own subprocesses.
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            pytest.fail(f"no end after {timeout} s\n{stdout}\n{stderr}")
        if check and process.returncode != 0:
            pytest.fail(f"exit code {process.returncode}\n{stdout}\n{stderr}")
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return run
