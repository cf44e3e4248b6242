"""Runs in processes of their own: what becomes of a study when some of them end badly.

The processes are stand-ins that know the protocol and nothing of TensorFlow; the recipes' tests
start real ones.
"""

import _thread
import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from keras_resnet.experiment import Experiment, run_study, study
from keras_resnet.training import Terminated, TrainingStopped
from keras_resnet.training.stopping import Diverged
from keras_resnet.utils import checks, processes
from tests.recipes.running import ROOT

METRICS = {
    **{"split": "test", "train_accuracy": 0.75, "test_accuracy": 0.5, "train_seconds": 3.0},
    **{"parameters": 10, "multiply_adds": 20},
}

CHILD = f"""
import json, os, pathlib, signal, sys, time
print("imported", file=sys.stderr)
settings = json.loads(sys.stdin.readline())["experiment"]
folder = pathlib.Path(settings["workdir"])

def saved(*_):
    (folder / "saved").touch()
    sys.exit(143)

match settings["model"]:
    case "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    case "waits":
        signal.signal(signal.SIGTERM, saved)
        (folder / "ready").touch()
        time.sleep(60)
    case "diverged":
        print(json.dumps({{"stopped": "Training diverged by step 3"}}))
        sys.exit(1)
    case "wrong":
        print(json.dumps({{"wrong": ["`depth` must be 6n+2", "`seed` must be 0"]}}))
        sys.exit(1)
    case _:
        with open(folder / "metrics.jsonl", "w") as file:
            row = {{"kind": "epoch", "step": 9, "epoch": 1, "accuracy": 0.75, "val_accuracy": 0.5}}
            file.write(json.dumps(row) + "\\n")
        print("noise of a library")
        print(json.dumps({{"metrics": {METRICS!r}}}))
"""


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(study, "COMMAND", (sys.executable, "-c", CHILD))
    monkeypatch.setattr(study, "POLL", 0.02)


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal; tests started in the background of a shell do not hear it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def experiments(*kinds):
    return {kind: Experiment.from_flat(model=kind) for kind in kinds}


def test_a_run_that_is_killed_takes_no_other_along(tmp_path, logged):
    """As the kernel kills what is largest where memory runs out."""
    with pytest.raises(TrainingStopped) as error:
        run_study(experiments("killed", "good", "fine"), [0, 1], tmp_path, jobs=2)
    assert "Of 6 runs, 2 stopped (killed, seed 0; killed, seed 1)" in str(error.value)
    printed = logged().splitlines()
    assert len(printed) == 7
    assert sum("killed by signal 9" in line for line in printed) == 2
    assert sum("training error 25.00 %, test error 50.00 %" in line for line in printed) == 4
    # What libraries write when they are imported does not reach the terminal.
    assert (tmp_path / "good-0" / "log.txt").read_text() == "imported\n"


def test_what_has_finished_is_there_beside_what_stopped(tmp_path):
    found = study.attempt_study(experiments("good", "diverged"), [3], tmp_path, jobs=1)
    (one,) = found.finished
    assert (one.label, one.seed, one.metrics) == ("good", 3, METRICS)
    assert [row["accuracy"] for row in one.epochs] == [0.75]
    assert found.stopped == [study.StoppedRun("diverged", 3, "Training diverged by step 3")]


def test_a_wrong_setting_ends_the_study_and_the_runs_in_progress_save_their_state(tmp_path):
    with pytest.raises(checks.ProblemsError) as caught:
        run_study(experiments("waits", "wrong"), [0], tmp_path, jobs=2)
    assert caught.value.lines == ("`depth` must be 6n+2", "`seed` must be 0")
    assert not (tmp_path / "wrong-0").exists()
    # It may have been ended before it was there to hear.
    assert (tmp_path / "waits-0" / "saved").exists() or not (tmp_path / "waits-0/ready").exists()


def test_an_interrupted_study_has_its_runs_save_their_state(tmp_path, ctrl_c):
    folders = [tmp_path / f"waits-{seed}" for seed in (0, 1)]

    def interrupt():
        until = time.monotonic() + 30
        while not all((f / "ready").exists() for f in folders) and time.monotonic() < until:
            time.sleep(0.02)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_study(experiments("waits"), [0, 1], tmp_path, jobs=2)
    thread.join()
    assert all((folder / "saved").exists() for folder in folders)
    assert [(folder / "log.txt").read_text() for folder in folders] == ["imported\n"] * 2


def test_real_command_leaves_ctrl_c_to_the_study(monkeypatch):
    monkeypatch.undo()
    first = "; ".join(study.COMMAND[2].split("; ")[:2])
    code = f"{first}; signal.raise_signal(signal.SIGINT); print('goes on')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "goes on\n" and found.stderr == ""


@pytest.mark.parametrize(
    ("error", "outcome", "logged"),
    [
        (Diverged(3, 0.1, "the loss is nan", "none"), "stopped", "error: Training diverged by"),
        (Terminated("SIGTERM at step 4"), "stopped", "error: SIGTERM at step 4\n"),
        (OSError("No space left on device"), "stopped", "error: No space left on device\n"),
        (ValueError("`depth` must be 6n+2"), "wrong", "error: `depth` must be 6n+2\n"),
        (checks.ProblemsError(["`a` 1", "`b` 2"]), "wrong", "error: `a` 1\nerror: `b` 2\n"),
        (RuntimeError("unforeseen"), "stopped", "Traceback"),
    ],
)
def test_how_a_run_ended_is_reported_and_logged_in_a_line(
    monkeypatch, capsys, error, outcome, logged
):
    def run(experiment):
        assert experiment == Experiment.from_flat(depth=8, drops=(0.5,))
        raise error

    monkeypatch.setattr(study, "run", run)
    order = json.loads(json.dumps(Experiment.from_flat(depth=8, drops=(0.5,)).flat()))
    ((kind, said),) = study._outcome(order).items()
    text = said if kind == "stopped" else "; ".join(said)
    assert kind == outcome and "; ".join(str(error).splitlines()) in text and "\n" not in text
    log = capsys.readouterr().err
    assert log.startswith(logged)
    assert log.count("\n") == str(error).count("\n") + 1 or isinstance(error, RuntimeError)


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    path = str(ROOT / "keras_resnet" / "utils" / "processes.py")
    code = f"import runpy, time; runpy.run_path({path!r})['end_with_parent'](); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        process.stdin.close()
        assert process.wait(30) == -15


def test_how_a_process_died():
    assert processes.death(-9).startswith("killed by signal 9, as systems do where memory")
    assert processes.death(-6) == "killed by signal 6"
    assert processes.death(1) == "ended with code 1"


def test_a_finished_run_is_read_and_one_of_other_settings_refused(tmp_path, monkeypatch):
    folder = tmp_path / "good-0"
    folder.mkdir()
    one = Experiment.from_flat(workdir=str(folder), model="good")
    (folder / "config.json").write_text(json.dumps(one.recorded()))
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    monkeypatch.setattr(study, "COMMAND", ("no process is started",))
    (found,) = run_study({"good": one}, [0], tmp_path)
    assert found.metrics == METRICS
    with pytest.raises(ValueError, match="batch_size.*Received:"):
        run_study({"good": one.replace(batch_size=7)}, [0], tmp_path)
