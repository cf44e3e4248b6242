"""Results go to standard output; log, progress, warnings and errors to standard error."""

import json
import shlex
import subprocess
import sys

import pytest

from keras_resnet.experiment.search import searching
from keras_resnet.utils.files import write_json
from keras_resnet.utils.terminal import RESULTS
from tests.conftest import ENVIRONMENT
from tests.recipes.running import ROOT, save_untrained, streams_here

SMALL = ("--depth", 8, "--steps", 2, "--batch-size", 64, "--log-every", 1, "--no-export")


def test_json_is_all_that_goes_through_a_pipe(tmp_path):
    model = save_untrained(tmp_path, channels=1, labels="0123456789")
    words = ["-m", "keras_resnet_command", "evaluate", "--models", model, "--json"]
    command = shlex.join([sys.executable, *map(str, words), "--workdir", str(tmp_path / "run")])
    done = subprocess.run(
        f"{command} | {shlex.quote(sys.executable)} -m json.tool",
        shell=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["images"] == 360


@pytest.mark.parametrize(
    ("lines", "closed"), [(1, "1"), (100_000, "1"), (100_000, "2")], ids=["short", "long", "errors"]
)
def test_output_that_nobody_reads_ends_the_process_quietly(lines, closed, subprocess_python):
    script = f"""
import os, sys
import keras_resnet_command
from keras_resnet import cli
reader, writer = os.pipe()
os.dup2(writer, {closed})
os.close(reader), os.close(writer)
def main():
    for i in range({lines}):
        print(i, file=(None, sys.stdout, sys.stderr)[{closed}])
cli.run(main)
"""
    done = subprocess_python(script, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


def test_another_broken_pipe_is_an_error(subprocess_python):
    script = """
import os
import keras_resnet_command
from keras_resnet import cli
def main():
    print("a result")
    raise BrokenPipeError(32, "of a server")
cli.run(main)
"""
    done = subprocess_python(script, check=False)
    assert (done.returncode, done.stdout) == (2, "a result\n")
    assert done.stderr == "error: [Errno 32] of a server\n"


def test_what_is_shown_by_the_way_can_be_left_out(tmp_path):
    _, log = streams_here("train", "--workdir", tmp_path / "a", *SMALL)
    assert "step 2/2" in log and "writing to" in log
    result, log = streams_here("train", "--workdir", tmp_path / "b", *SMALL, "--quiet")
    assert log == "" and result.startswith(f"{tmp_path / 'b'}: test accuracy ")
    result, log = streams_here("train", "--workdir", tmp_path / "b", *SMALL, "--json")
    assert "nothing to do" in log
    assert json.loads(result) == json.loads((tmp_path / "b" / "metrics.json").read_text())


def test_a_range_test_takes_the_place_of_training(tmp_path):
    words = ("train", "--depth", 8, "--batch-size", 64, "--workdir", tmp_path)
    result, log = streams_here(*words, "--find-learning-rate", "--json")
    found = json.loads(result)
    assert found == json.loads((tmp_path / "learning_rates.json").read_text())
    assert 1e-6 < found["suggestion"] < 10 and found["steps"] <= 100
    assert f"the loss falls fastest at {found['suggestion']:.2g}" in log
    names = {path.name for path in tmp_path.iterdir()} - {".lock"}
    assert names == {f"learning_rates.{kind}" for kind in ("png", "svg", "csv", "json")}


def test_a_search_prints_json_and_nothing_of_its_library(tmp_path, monkeypatch):
    def search(base, *_, **__):
        print("Trial 1 Complete")
        RESULTS.info("a table")
        write_json(tmp_path / "table.json", {"best": "0", "rows": [{"trial": "0"}]})
        write_json(tmp_path / "best-trial-0" / "metrics.json", {"test_accuracy": 0.5})

    monkeypatch.setattr(searching, "search", search)
    result, log = streams_here("tune", "--workdir", tmp_path)
    assert (result, log) == ("a table\n", "Trial 1 Complete\n")
    result, log = streams_here("tune", "--workdir", tmp_path, "--json")
    assert log == "Trial 1 Complete\na table\n"
    assert json.loads(result)["final"] == {"test_accuracy": 0.5}
    result, log = streams_here("tune", "--workdir", tmp_path, "--quiet")
    assert (result, log) == ("a table\n", "")
