"""The benchmark suite, with workers whose durations are given, and one that is a process."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import subprocess

import keras
import pytest

import keras_resnet
from benchmarks import driver, int8, report, worker
from benchmarks.__main__ import main
from benchmarks.driver import Samples
from benchmarks.rows import BEST, ROWS, STEP, Contender, Goal, Row
from keras_resnet.export import export
from tests.helpers import refused

OURS, THEIRS = Contender("ours:train"), Contender("torch_peers:train")
ROW = Row("row", "work", {"own": OURS, "their": THEIRS}, anchor="their", turns=3)


class Fake:
    """A worker that takes the seconds it is given, and notes when it was asked."""

    def __init__(self, name, log, seconds=(1.0,), failure=None, fails_at=None):
        self.name, self.log, self.seconds = name, log, list(seconds)
        self.failure, self.fails_at = failure, fails_at

    def ask(self, request=""):
        self.log.append((self.name, request))
        if self.fails_at == request:
            return self.failure
        seconds = self.seconds.pop(0) if request and self.seconds[1:] else self.seconds[0]
        return {"seconds": seconds, "memory": 100}

    def close(self):
        self.log.append((self.name, "close"))


def fakes(log, **options):
    return {name: functools.partial(Fake, name, log, **own) for name, own in options.items()}


def taken(row, log, **options):
    return driver.take_turns(fakes(log, **options), row, pause=lambda: None)


def test_worker_answers_with_the_seconds_of_a_step():
    ticks, answers, steps = iter([0, 5, 10, 18]), [], []
    worker.serve(
        lambda: lambda: lambda: steps.append(1),
        ["build", "step 4"],
        answers.append,
        clock=lambda: next(ticks),
    )
    assert [answer["seconds"] for answer in answers] == [0, 5, 2]
    assert len(steps) == 4 and answers[2]["memory"] > 2**20


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "missing"),
        (ModuleNotFoundError("No module", name="keras_resnet.gone"), "error"),
        (ValueError("first line\nsecond"), "error"),
    ],
)
def test_worker_tells_a_missing_package_from_an_error(error, kind):
    def fail():
        raise error

    answers = []
    worker.serve(lambda: fail, ["build", "step"], answers.append)
    line = str(error).splitlines()[0]
    assert answers[1:] == [{kind: f"{type(error).__name__}: {line}"}]


def test_workers_take_turns_which_another_begins_each_time():
    log = []
    samples = taken(
        ROW, log, own={"seconds": [5, 4, 1, 2, 3, 9]}, their={"seconds": [7, 6, 2, 4, 6, 9]}
    )
    assert samples["own"] == Samples(build=[5], first=[4], step=[1, 2, 3], memory=[100])
    asked = [name for name, request in log if request not in ("", "close")]
    assert asked == "own their their own own their their own own their".split()
    assert [request for name, request in log if name == "own"] == [
        *("", "build", "step", "step 1", "step 1", "step 1", "close")
    ]


def test_what_reads_ahead_has_its_turns_at_once():
    log, row = [], dataclasses.replace(ROW, alone=True, rounds=2, turns=1)
    samples = taken(row, log, own={}, their={})
    asked = [name for name, request in log if request not in ("", "close")]
    assert asked == 3 * ["own"] + 3 * ["their"] + 3 * ["their"] + 3 * ["own"]
    assert len(samples["own"].step) == len(samples["their"].memory) == 2


def test_a_contender_that_fails_leaves_the_others():
    log, row = [], dataclasses.replace(ROW, rounds=2)
    failing = {"failure": {"missing": "no torch"}, "fails_at": "step"}
    samples = taken(row, log, own={}, their=failing)
    assert samples["their"].missing == "no torch" and not samples["their"].first
    assert len(samples["own"].step) == 2 * row.turns
    assert log.count(("their", "")) == 1  # in the second round no worker is started
    result = report.summarize(row, samples)
    assert result["missing"] == {"their": "no torch"} and not result["errors"]
    assert "peer missing: no torch" in report.table(result)


def test_figures_of_a_row():
    samples = {
        "own": Samples(step=[1.0, 1.0, 2.0, 3.0], memory=[2**30]),
        "their": Samples(step=[2.0, 2.0, 4.0, 6.0], memory=[2**31]),
    }
    row = dataclasses.replace(
        ROW,
        measures=(STEP, "memory"),
        goals=[
            Goal(STEP, 0.6, "own"),
            Goal(STEP, 0.4, BEST),
            Goal(STEP, 2.0, "own", seconds=True),
            Goal("memory", 0.5, "own", features=("vnni",)),
        ],
    )
    figure, other, memory, _ = report.summarize(row, samples)["figures"]
    assert figure["quartiles"] == [1.0, 1.5, 2.25] and other["quartiles"] == [2.0, 3.0, 4.5]
    assert figure["ratio"] == [0.5, 0.5, 0.5] and other["ratio"] == [1, 1, 1]
    assert [goal["met"] for goal in figure["goals"]] == ["met", "missed", "unclear"]
    assert memory["ratio"] == [0.5, 0.5, 0.5] and memory["goals"] == []
    result = report.summarize(row, samples, {"vnni"})
    assert result["figures"][2]["goals"][0]["met"] == "met"
    assert report.table(result).splitlines()[2:] == [
        "| step | own | 1.5 s | 1 s to 2.25 s | 0.50 (0.50 to 0.50) "
        "| at most 0.6: met, best at most 0.4: missed, at most 2 s: unclear |",
        "| step | their | 3 s | 2 s to 4.5 s | 1.00 (1.00 to 1.00) |  |",
        "| memory | own | 1 GiB | 1 GiB to 1 GiB | 0.50 (0.50 to 0.50) | at most 0.5: met |",
        "| memory | their | 2 GiB | 2 GiB to 2 GiB | 1.00 (1.00 to 1.00) |  |",
    ]


def test_the_interval_of_a_ratio_holds_its_median():
    own = [1.0 + 0.01 * (7 * i % 20) for i in range(20)]
    median, low, high = report.ratio(own, 20 * [1.0])
    assert median == pytest.approx(1.095) and 1.04 < low < median < high < 1.15
    assert report.ratio(own, []) is None


def test_another_commit_takes_turns_too(tmp_path):
    files = Contender("ours:write")
    row = dataclasses.replace(
        ROW, contenders={"own": Contender("ours:infer", needs=files), "their": THEIRS}
    )
    opened = []

    def open_worker(contender, options, tree):
        opened.append((contender.subject, tree))
        assert ("folder" in options) == (contender is not THEIRS)
        return Fake("", [], [2.0 if tree == tmp_path else 4.0])

    trees = {"": driver.ROOT, ", v1": tmp_path}
    prepare = driver.Preparation(tmp_path, open_worker, lambda: None)
    samples = driver.measure(row, trees, prepare)
    measured = [
        *(("ours:infer", driver.ROOT), ("torch_peers:train", driver.ROOT)),
        ("ours:infer", tmp_path),
    ]
    assert opened == [("ours:write", driver.ROOT), ("ours:write", tmp_path), *measured]
    # Another row finds what it needs.
    opened.clear()
    driver.measure(row, trees, prepare)
    assert opened == measured
    result = report.summarize(row, samples, suffix=", v1")
    (change,) = [figure["change"] for figure in result["figures"] if figure["change"]]
    assert change == [2, 2, 2]
    assert "2.00 (2.00 to 2.00), a loss" in report.table(result)


def test_what_cannot_be_prepared_is_told_of_who_needs_it(tmp_path):
    files = Contender("torch_peers:export_onnx")
    contenders = {"own": OURS, "their": Contender("onnx_peers:infer", needs=files)}

    def open_worker(contender, options, tree):
        failure = {"missing": "no torch"} if contender is files else {"seconds": 1, "memory": 1}
        return Fake("", [], failure=failure, fails_at="build" if contender is files else None)

    row = dataclasses.replace(ROW, contenders=contenders)
    prepare = driver.Preparation(tmp_path, open_worker, lambda: None)
    samples = driver.measure(row, {"": driver.ROOT}, prepare)
    assert samples["their"].missing == "no torch" and len(samples["own"].step) == row.turns


def test_another_commit_is_checked_out_with_these_benchmarks(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "benchmarks").mkdir(parents=True)
    settings = "-c user.name=a -c user.email=a@b.invalid -c commit.gpgsign=false".split()

    def git(*words):
        done = subprocess.run(
            ["git", *settings, *words], cwd=root, check=True, capture_output=True, text=True
        )
        return done.stdout

    git("init", "-q")
    for text in ("old", "new"):
        (root / "package.py").write_text(text)
        (root / "benchmarks" / "rows.py").write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", text)
    monkeypatch.setattr(driver, "ROOT", root)
    with driver.checked_out("HEAD~1") as tree:
        assert (tree / "package.py").read_text() == "old"
        assert (tree / "benchmarks" / "rows.py").read_text() == "new"
        assert len(git("worktree", "list").splitlines()) == 2
    assert len(git("worktree", "list").splitlines()) == 1
    with refused("`compare`"), driver.checked_out("nowhere"):
        pass
    assert not driver.commit().endswith("+")
    (root / "package.py").write_text("newer")
    assert driver.commit().endswith("+")


def test_a_worker_is_a_process(tmp_path):
    options = {"count": 2, "width": 40, "height": 30}
    process = driver.Worker(Contender("photographs:write", options), {"folder": str(tmp_path)})
    assert process.ask()["seconds"] == 0
    assert process.ask("build")["memory"] > 2**20
    assert sorted(path.name for path in tmp_path.glob("*/*.jpg")) == ["0.jpg", "1.jpg"]
    assert "error" in process.ask("step")  # it has none
    process.close()
    process = driver.Worker(Contender("nowhere:build"), {})
    assert "nowhere" in process.ask()["error"]
    assert "code 0" in process.ask("build")["error"]
    process.close()


def parameters(contender):
    """Returns the parameters of a contender's function, without its libraries."""
    module, _, name = contender.subject.partition(":")
    tree = ast.parse((driver.ROOT / "benchmarks" / f"{module}.py").read_text("utf-8"))
    (found,) = (
        node.args for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name
    )
    return {argument.arg for argument in (*found.args, *found.kwonlyargs)}, found.kwarg


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_rows_name_what_there_is(row):
    assert row.anchor in row.contenders
    for goal in row.goals:
        assert goal.contender == BEST or row.contenders[goal.contender].ours
        assert goal.measure in row.measures
    for contender in row.contenders.values():
        for part in filter(None, (contender, contender.needs)):
            known, any_other = parameters(part)
            assert any_other or set(part.options) <= known
            assert ("folder" in known) == bool(part is not contender or contender.needs)


CONDITIONS = {
    "command": "python -m benchmarks row",
    "date": "2026-01-01",
    "commit": "abc",
    "processor": "a processor",
    "features": [],
    "cores": 2,
    "load": 0.1,
    "versions": {"keras": "3"},
}


def test_the_page_is_written_anew(tmp_path):
    samples = {"own": Samples(step=[1.0]), "their": Samples(step=[2.0])}
    row = dataclasses.replace(ROW, goals=[Goal(STEP, 0.6, "own")])
    result = report.summarize(row, samples) | {"conditions": CONDITIONS}
    stored, page = tmp_path / "results.json", tmp_path / "page.md"
    stored.write_text(json.dumps({"row": result}))
    page.write_text(f"before\n\n{report.START}\n\nold\n\n{report.END}\n\nafter\n")
    words = ["--json", str(stored), "--update", str(page), "--plot", str(tmp_path / "a.png")]
    assert main(words) == 0
    written = page.read_text()
    assert written.startswith(f"before\n\n{report.START}\n\n### row\n\nWork.\n\n| measure |")
    assert "at commit abc by `python -m benchmarks row`" in written and "old" not in written
    assert written.endswith(f"\n\n{report.END}\n\nafter\n")
    assert main(words) == 0 and page.read_text() == written
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    assert main([]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(ROWS)
    page = tmp_path / "page.md"
    page.write_text("nothing")
    for words in (["row"], ["--update", str(page)]):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: `") and "Received: " in line


def test_integers_are_told_by_width_and_form(tmp_path, monkeypatch, capsys):
    """Runs that are there already are measured alone."""
    for seed in (0, 1):
        rows = [
            {"width": 0.5, "seed": seed, "form": form, "runtime": runtime, "bytes": 1600 + seed}
            | {"error": 0.01 * (place + seed)}
            for place, form in enumerate(int8.FORMS)
            for runtime in int8.RUNTIMES
        ]
        (tmp_path / f"0.5-{seed}-60-10").mkdir()
        (tmp_path / f"0.5-{seed}-60-10" / "rows.json").write_text(json.dumps(rows))
    timed = []

    def latencies(files, shape):
        timed.append([path.relative_to(tmp_path).as_posix() for path in files.values()])
        return {form: 0.25 * (place + 1) for place, form in enumerate(files)}

    monkeypatch.setattr(int8, "latencies", latencies)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{int8.START}\nold\n{int8.END}\nafter\n")
    words = ["--workdir", str(tmp_path), "--widths", "0.5", "--seeds", "0", "1", "--update"]
    int8.main([*words, str(page)])
    assert timed[0][2:] == [
        f"0.5-0-60-10/int8-{form}.tflite" for form in ("post-training", "trained")
    ]
    assert timed[1][0] == "0.5-0-60-10/float32.onnx"
    written = page.read_text()
    line = "| 0.5 | int8, trained | 3.50 ± 0.71 | 2 | 1.000 | 3.50 ± 0.71 | 2 | 1.000 |"
    assert line in written and line in capsys.readouterr().out
    assert "old" not in written and written.endswith(f"\n\n{int8.END}\nafter\n")
    assert (tmp_path / "int8.csv").read_text().count("\n") == 17
    with refused("update", int8.START):
        int8.main([*words, str(tmp_path / "int8.md")])
    # Runs of other epochs are not these.
    monkeypatch.setattr(int8, "run", lambda base: pytest.fail("made"))
    for flag in ("--epochs", "--more-epochs"):
        with pytest.raises(pytest.fail.Exception, match="made"):
            int8.main([*words, str(page), flag, "1"])


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_latencies_of_files(tmp_path, monkeypatch, suffix):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tf2onnx")
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(inputs)))
    export(model, tmp_path / f"m{suffix}", preprocessing="none")
    monkeypatch.setattr(int8, "_ROUNDS", 5)
    found = int8.latencies({"one": tmp_path / f"m{suffix}"}, (1, 4, 4, 1))
    assert 0 < found["one"] < 100


@pytest.mark.torch
def test_networks_of_pytorch_have_our_parameters():
    from benchmarks.torch_peers import network_of

    for depth in (20, 110):
        net = network_of(f"resnet{depth}", 10)
        ours = getattr(keras_resnet, f"ResNet{depth}")(weights=None)
        trained = sum(weight.numel() for weight in net.parameters())
        assert trained == sum(weight.numpy().size for weight in ours.trainable_variables)
