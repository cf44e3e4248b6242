"""recipes/transfer.py at the smallest size, as a user starts it."""

import json

import pytest

from tests.recipes.running import refused, run_recipe

SHORT = ("--depth", 8, "--head-epochs", 1, "--epochs", 1, "--seeds", 0)


@pytest.mark.slow
def test_seven_digits_carried_over_to_three(tmp_path):
    result = run_recipe("transfer", "--workdir", tmp_path / "run", "--seeds", 0)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "run" / "table.json").read_text())["rows"]
    assert [row["network"] for row in rows] == ["fine-tuned", "from scratch"]
    for row in rows:
        assert row["test_error"] < 0.5
    assert (tmp_path / "run" / "comparison.png").exists()


def test_a_wrong_source_is_one_line_and_writes_nothing(tmp_path):
    for flags, named in (
        (("--init", "nowhere.keras", *SHORT[2:]), "nowhere.keras"),
        (("--dataset", "folder", "--data-dir", tmp_path, *SHORT), "`init`"),
        (("--head-epochs", -1), "head_epochs=-1"),
    ):
        refused(named, "transfer.py", *flags, "--workdir", tmp_path / "run")
        assert list(tmp_path.iterdir()) == []
