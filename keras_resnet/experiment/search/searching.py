"""A search for a network: candidates side by side, and the best one trained fully. TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

from keras_resnet.analysis import plots
from keras_resnet.experiment.card import origin
from keras_resnet.experiment.factories import architecture_of
from keras_resnet.experiment.page import REPORT, require_jinja, write_report
from keras_resnet.experiment.reports import write_rows
from keras_resnet.experiment.runner import opened, run
from keras_resnet.experiment.search.space import SearchSpace, candidate
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.workdir import DATA, expect_settings
from keras_resnet.training import TrainingStopped
from keras_resnet.utils import checks, private
from keras_resnet.utils.files import clear_leftovers, write_json
from keras_resnet.utils.tables import text_table
from keras_resnet.utils.terminal import RESULTS

# Trials of "random" and "bayesian" by default.
TRIALS = 12


def search(
    base: Experiment,
    space: SearchSpace,
    *,
    tuner: str = "random",
    trials: int | None = None,
    factor: int = 3,
    max_parameters: int | None = None,
    max_multiply_adds: int | None = None,
    final_epochs: int = 60,
) -> list[dict[str, Any]]:
    """Trains candidates for a few epochs each, and the best of them for many.

    The best has the highest accuracy on the validation images; of equals, the fewest multiply-adds.
    Candidates over the budget are trials that are not trained. A search that was interrupted
    resumes, in the middle of a trial too, and one that is started again with more trials adds them.
    A candidate that runs out of memory has failed, and the search continues. Where the system kills
    the process instead, the search ends with it, since candidates are trained in the same process;
    started again it resumes that candidate, and counts it as failed after a second kill without a
    checkpoint in between: a single one may have been meant for the search.

    Writes to `base.workdir`: search.json, the settings; search/, keras-tuner's files and the
    candidates' checkpoints; table.csv and table.json, a row per trial; accuracy.png, .svg and .csv,
    accuracy against multiply-adds; report.html; best-trial-N/, the best one's run as in
    `experiment.run`.

    Args:
        base: Settings that all candidates share; its epochs are those of a trial, with "hyperband"
            of the trials that get the most.
        space: Values to choose from.
        tuner: "random", "hyperband" (arXiv 1603.06560) or "bayesian".
        trials: Number of candidates; None for 12, and with "hyperband", whose brackets decide it.
        factor: "hyperband" trains one of so many candidates on, for so many times the epochs.
        max_parameters: The most parameters that a candidate may have, or None.
        max_multiply_adds: The most multiply-adds of one image, or None.
        final_epochs: Epochs that the best is trained for, from new random values.

    Returns:
        The table's rows.
    """
    # Here, since keras-tuner comes with an extra.
    from keras_resnet.experiment.search.tuner import ResNetHyperModel, make_tuner

    checks.integer("final_epochs", final_epochs)
    if trials is None and tuner != "hyperband":
        trials = TRIALS
    workdir = Path(base.output.workdir)
    limits = {"max_parameters": max_parameters, "max_multiply_adds": max_multiply_adds}
    settings = {**base.of_the_result(), "space": dataclasses.asdict(space), "tuner": tuner}
    settings |= {"factor": factor, **limits}
    expect_own = functools.partial(expect_settings, workdir / "search.json", settings, of="search")
    require_jinja()
    with opened(base, expect_own) as (strategy, dataset):
        hypermodel = ResNetHyperModel(base, dataset, space, strategy=strategy, **limits)
        fresh = not hypermodel.folder.exists()
        tried = make_tuner(hypermodel, tuner, trials=trials, factor=factor)
        held = [*hypermodel.folder.glob("trial_*"), *hypermodel.folder.glob("candidates/*")]
        for folder in (workdir, hypermodel.folder, *held):
            clear_leftovers(folder)
        write_json(workdir / "search.json", settings)
        write_json(workdir / DATA, dataset.identity())
        with private.tuner_saves_json(write_json):
            tried.search()
        # A trial that ended while the search was being killed has ended twice.
        ended = dict.fromkeys(tried.oracle.end_order)
        rows = [_row(tried.oracle.get_trial(trial), hypermodel) for trial in ended]
        none_left = all(row["state"] == "over budget" for row in rows)
        if none_left and fresh:
            # Nothing was trained: the folder is free for another search.
            for name in ("search.json", DATA):
                (workdir / name).unlink()
            shutil.rmtree(hypermodel.folder)
    if none_left:
        raise ValueError(
            "`max_parameters` and `max_multiply_adds` must leave some candidates. Received: "
            f"max_parameters={max_parameters}, max_multiply_adds={max_multiply_adds}, which all "
            f"{len(rows)} candidates are over"
        )
    trained = [row for row in rows if row["state"] == "trained"]
    if not trained:
        raise TrainingStopped("No candidate could be trained; the reasons are above")
    best = max(trained, key=lambda row: (row["val_accuracy"], -row["multiply_adds"]))
    trial = best["trial"]
    write_rows(workdir, rows, best=trial)
    title = f"Search on {dataset.name}, {len(rows)} trials, seed {base.optimization.seed}"
    plots.search(
        rows,
        workdir / "accuracy.png",
        title=title,
        best=trial,
        max_multiply_adds=max_multiply_adds,
    )
    defaults = {**Experiment().flat(), **dataclasses.asdict(SearchSpace())}
    write_report(workdir, title=title, metrics=origin(), defaults=defaults)
    RESULTS.info(text_table([_shown(row) for row in rows]))
    RESULTS.info(f"The best is trial {trial}, {best['network']}; it is trained anew")
    values = tried.oracle.get_trial(trial).hyperparameters.values
    final = str(workdir / f"best-trial-{trial}")
    run(candidate(base, values, epochs=final_epochs, workdir=final))
    RESULTS.info(f"The search is in {workdir}: begin with {REPORT}")
    return rows


def _row(trial, hypermodel) -> dict[str, Any]:
    values = trial.hyperparameters.values
    figures = {name: trial.metrics.get_last_value(name) for name in trial.metrics.metrics}
    over, trained = hypermodel.over_budget(figures), "val_loss" in figures
    return {
        "trial": trial.trial_id,
        "network": architecture_of(candidate(hypermodel.base, values).network).name,
        "state": "over budget" if over else "trained" if trained else "failed",
        **{name: values[name] for name in hypermodel.space.choices()},
        "parameters": int(figures["parameters"]),
        "multiply_adds": int(figures["multiply_adds"]),
        "epochs": 0 if over else values.get("tuner/epochs", hypermodel.base.optimization.epochs),
        "val_accuracy": figures["val_accuracy"] if trained else None,
        "val_loss": figures.get("val_loss"),
        "seconds": figures.get("seconds"),
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the columns shown on the terminal."""
    names = (
        *("trial", "network", "dropout", "stochastic_depth", "learning_rate", "momentum"),
        *("weight_decay", "parameters", "multiply_adds", "epochs"),
    )
    accuracy, state = row["val_accuracy"], row["state"]
    shown = state if accuracy is None else f"{100 * accuracy:.2f}"
    return {**{name: row[name] for name in names}, "validation accuracy %": shown}
