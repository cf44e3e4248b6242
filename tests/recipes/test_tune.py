"""The search, as a user runs it."""

import json
import signal

import pytest

from tests.recipes.running import finish_recipe, refused, run_recipe, start_recipe

TINY = (
    *("--trials", 2, "--epochs", 2, "--final-epochs", 1, "--repeats", 1, "--widenings", 0.5),
    *("--blocks", "basic", "--shortcuts", "A"),
)


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_a_finished_run(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start_recipe("tune", "--workdir", killed, *TINY)
    for line in process.stderr:
        if line.startswith("Search: Running Trial #2"):
            break
    process.send_signal(signal.SIGKILL)
    finish_recipe(process)
    again = run_recipe("tune", "--workdir", killed, *TINY)
    assert again.returncode == 0, again.stderr
    assert "Trial 1 Complete" not in again.stderr and "Trial 2 Complete" in again.stderr
    assert "The best is trial" in again.stdout and "Complete" not in again.stdout
    assert run_recipe("tune", "--workdir", whole, *TINY).returncode == 0
    tables = [json.loads((folder / "table.json").read_text()) for folder in (killed, whole)]
    for table in tables:
        for row in table["rows"]:
            del row["seconds"]
    assert tables[0] == tables[1]
    best = killed / f"best-trial-{tables[0]['best']}"
    for name in ("model.keras", "model_card.md", "metrics.json", "learning_curve.png"):
        assert (best / name).exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--trials", "0"], "trials=0"),
        (["--tuner", "hyperband", "--trials", "3"], "trials=3"),
        (["--tuner", "grid"], "tuner='grid'"),
        (["--shortcuts", "D"], "shortcuts='D'"),
        (["--max-parameters", "0"], "max_parameters=0"),
        (["--max-parameters", "9", "--trials", "2"], "max_parameters"),
        (["--final-epochs", "0"], "final_epochs=0"),
        (["--learning-rates", "0.1"], "learning_rates="),
    ],
)
def test_wrong_flag_is_one_line(tmp_path, flags, named):
    flags = ["--workdir", tmp_path / "run", "--widenings", 0.5, "--repeats", 1, *flags]
    refused(named, "tune", *flags)
