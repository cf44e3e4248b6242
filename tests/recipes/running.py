"""Running a recipe as a user does, in a process of its own or, which is faster, in this one."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_resnet

ROOT = Path(__file__).parents[2]
# Where a recipe that runs in this process finds the module that all of them import.
sys.path.append(str(ROOT / "recipes"))


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


def run_here(name, *flags, monkeypatch):
    """Runs `recipes/{name}.py` in this process."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, flags)])
    runpy.run_path(str(ROOT / "recipes" / f"{name}.py"), run_name="__main__")


def refused(name, *flags, monkeypatch, capsys):
    """Runs `recipes/{name}.py` in this process, expects exit code 2, and returns the errors."""
    with pytest.raises(SystemExit) as exit:
        run_here(name, *flags, monkeypatch=monkeypatch)
    assert exit.value.code == 2
    return capsys.readouterr().err.splitlines()


def save_untrained(folder, channels, labels):
    """Saves an untrained net for 8x8 images with labels beside it; returns the model's file."""
    keras.utils.set_random_seed(0)
    scaled = keras.layers.Rescaling(1 / 64)(keras.Input((8, 8, channels)))
    model = keras_resnet.CifarResNet(8, input_tensor=scaled, classes=len(labels))
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join(labels))
    return folder / "model.keras"
