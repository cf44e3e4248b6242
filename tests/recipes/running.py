"""Running recipes and verbs as a user does, in a process of their own or, faster, in this one."""

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_resnet
import keras_resnet_command

# The import took them from pytest.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
ROOT = Path(__file__).parents[2]


def start_recipe(name, *flags, env=None, **options):
    """Starts `recipes/{name}.py` and returns the process."""
    return subprocess.Popen(
        [sys.executable, f"recipes/{name}.py", *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_recipe(name, *flags, timeout=600, **options):
    """Runs `recipes/{name}.py` to its end."""
    return finish_recipe(start_recipe(name, *flags, **options), timeout)


def finish_recipe(process, timeout=600):
    """Waits for a recipe, and returns what it printed and its exit code."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run_here(name, *flags):
    """Runs a recipe ("digits.py") or a verb ("predict") here; returns its standard output."""
    words = list(map(str, flags))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            if name.endswith(".py"):
                patch.setattr(sys, "argv", [f"recipes/{name}", *words])
                runpy.run_path(str(ROOT / "recipes" / name), run_name="__main__")
            else:
                patch.setattr(sys, "argv", ["/bin/keras-resnet", name, *words])
                keras_resnet_command.main()
        except SystemExit as end:
            if end.code:
                raise
    return out.getvalue()


def streams_here(name, *flags):
    """Does what `run_here` does, and returns standard output and standard error."""
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        return run_here(name, *flags), errors.getvalue()


def refused(named, name, *flags):
    """Expects a recipe or verb to end with code 2 and one line, after the log, that has `named`."""
    with contextlib.redirect_stderr(io.StringIO()) as errors, pytest.raises(SystemExit) as exit:
        run_here(name, *flags)
    *log, line = errors.getvalue().splitlines()
    assert exit.value.code == 2 and line.startswith("error: ") and named in line
    assert not any(one.startswith(("error: ", "Traceback")) for one in log)


def save_untrained(folder, channels, labels):
    """Saves an untrained net for 8x8 images with labels beside it; returns the model's file."""
    keras.utils.set_random_seed(0)
    scaled = keras.layers.Rescaling(1 / 64)(keras.Input((8, 8, channels)))
    model = keras_resnet.CifarResNet(8, input_tensor=scaled, classes=len(labels))
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join(labels))
    return folder / "model.keras"
