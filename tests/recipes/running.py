"""Running a recipe as a user does: a process of its own, flags, files."""

import os
import subprocess
import sys
from pathlib import Path

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
