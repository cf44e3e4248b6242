"""A search for a network: candidates side by side, and the best one trained fully. TensorFlow."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

from keras_resnet.analysis import plots
from keras_resnet.experiment.factories import architecture_of
from keras_resnet.experiment.runner import opened, run
from keras_resnet.experiment.search.space import SearchSpace
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.workdir import expect_settings
from keras_resnet.training import TrainingStopped
from keras_resnet.utils import checks
from keras_resnet.utils.files import clear_leftovers, write_json
from keras_resnet.utils.tables import text_table
from keras_resnet.utils.terminal import format_seconds

# Trials of "random" and "bayesian" where nobody says how many.
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
) -> list[dict[str, object]]:
    """Trains candidates for a few epochs each, and the best of them for many.

    The best has the highest accuracy on the validation images; of equals, the fewest multiply-adds.
    Candidates over the budget are not trained and cost no trial. A search that was interrupted goes
    on where it was, and one that is started again with more trials adds them.

    Writes to `base.workdir`: search.json, the settings; search/, keras-tuner's files and a folder
    for each trial; table.csv and table.json, a row per candidate; accuracy.png, .svg and .csv,
    accuracy against multiply-adds; best-trial-N/, the best one's run as in `experiment.run`.

    Args:
        base: Settings that all candidates share; its epochs are those of a trial, with "hyperband"
            of the trials that get the most.
        space: What to choose from.
        tuner: "random", "hyperband" (arXiv 1603.06560) or "bayesian".
        trials: Candidates to train; None for 12, and with "hyperband", whose brackets decide it.
        factor: "hyperband" trains one of so many candidates on, for so many times the epochs.
        max_parameters: The most parameters that a candidate may have, or None.
        max_multiply_adds: The most multiply-adds of one image, or None.
        final_epochs: Epochs that the best is trained for, from new random values.

    Returns:
        The table's rows: `trial`, `network`, `state`, what was chosen, `parameters`,
        `multiply_adds`, `epochs`, `val_accuracy`, `val_loss`, and `seconds` of training.

    Raises:
        ValueError: If a setting is wrong, or the folder holds another search or a damaged one.
        TrainingStopped: If training cannot go on, or no candidate could be trained.
    """
    # Here, since keras-tuner comes with an extra.
    from keras_resnet.experiment.search.tuner import (
        ResNetHyperModel,
        ResNetTuner,
        check_base,
    )

    checks.integer("final_epochs", final_epochs)
    check_base(base)
    if trials is None and tuner != "hyperband":
        trials = TRIALS
    workdir = Path(base.output.workdir)
    settings = {
        **base.of_the_result(),
        "space": dataclasses.asdict(space),
        "tuner": tuner,
        "factor": factor,
        "max_parameters": max_parameters,
        "max_multiply_adds": max_multiply_adds,
    }
    expect_settings(workdir / "search.json", settings, of="search")
    with opened(base) as (strategy, dataset):
        hypermodel = ResNetHyperModel(
            base,
            dataset,
            space,
            strategy=strategy,
            max_parameters=max_parameters,
            max_multiply_adds=max_multiply_adds,
        )
        oracle = hypermodel.oracle(tuner, trials=trials, factor=factor)
        progress, fresh = _Progress(oracle, hypermodel), not (workdir / "search").exists()
        found = ResNetTuner(oracle, hypermodel, workdir / "search", on_end=progress)
        clear_leftovers(workdir)
        write_json(workdir / "search.json", settings)
        progress.begin()
        try:
            found.search()
        except ValueError:
            if fresh and not oracle.start_order:
                # None was within the budget: the folder is free for another one.
                (workdir / "search.json").unlink()
                shutil.rmtree(workdir / "search")
            raise
    rows = _rows(oracle, hypermodel)
    best = _best(rows)
    _report(rows, best, base, dataset.name, max_multiply_adds)
    values = oracle.get_trial(best["trial"]).hyperparameters.values
    run(
        hypermodel.experiment(values).replace(
            epochs=final_epochs, workdir=str(workdir / f"best-trial-{best['trial']}")
        )
    )
    return rows


class _Progress:
    """Prints a line for each trial that has ended, and how long the rest will take."""

    def __init__(self, oracle, hypermodel):
        self._oracle, self._hypermodel = oracle, hypermodel

    def begin(self) -> None:
        """To be called when the search is about to start or to go on."""
        self._planned = self._oracle.planned_epochs()
        self._done = sum(map(self._epochs, self._ended()))
        self._started, self._first = time.monotonic(), self._done
        if self._done:
            print(f"{len(self._ended())} trials of this search are done; it goes on", flush=True)

    def __call__(self, trial) -> None:
        self._done += self._epochs(trial)
        elapsed = time.monotonic() - self._started
        left = elapsed / (self._done - self._first) * max(0, self._planned - self._done)
        row = _row(trial, self._hypermodel)
        end = trial.message if row["state"] == "failed" else f"{100 * row['val_accuracy']:.2f} %"
        share = min(1.0, self._done / self._planned)
        epochs = "1 epoch" if row["epochs"] == 1 else f"{row['epochs']} epochs"
        print(
            f"trial {trial.trial_id} ({100 * share:.0f} %)  {row['network']}, "
            f"{row['multiply_adds'] / 1e6:.2f} million multiply-adds, {epochs}, rate "
            f"{row['learning_rate']:.3g}: validation accuracy {end}  "
            f"about {format_seconds(left)} left",
            flush=True,
        )

    def _ended(self):
        return [self._oracle.get_trial(trial_id) for trial_id in self._oracle.end_order]

    def _epochs(self, trial) -> int:
        """Epochs that the trial itself took; with Hyperband, others may have come before."""
        values = trial.hyperparameters.values
        epochs = values.get("tuner/epochs", self._hypermodel.base.optimization.epochs)
        return epochs - values.get("tuner/initial_epoch", 0)


def _rows(oracle, hypermodel) -> list[dict[str, object]]:
    """Returns the table: trials as they ended, then what was over the budget."""
    trials = [oracle.get_trial(trial_id) for trial_id in oracle.end_order]
    over = [_described(None, values, "over budget", hypermodel) for values in oracle.rejected]
    return [*(_row(trial, hypermodel) for trial in trials), *over]


def _row(trial, hypermodel) -> dict[str, object]:
    values = trial.hyperparameters.values
    state = "trained" if trial.message is None else "failed"
    row = _described(trial.trial_id, values, state, hypermodel)
    if state == "trained":
        for name in ("val_accuracy", "val_loss", "seconds"):
            row[name] = trial.metrics.get_last_value(name)
    return row


def _described(trial_id, values, state, hypermodel) -> dict[str, object]:
    cost, epochs = hypermodel.cost(values), hypermodel.base.optimization.epochs
    chosen = {name: values[name] for name in hypermodel.space.names()}
    return {
        "trial": trial_id,
        "network": architecture_of(hypermodel.experiment(values).network).name,
        "state": state,
        **chosen,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "epochs": values.get("tuner/epochs", epochs) if trial_id else 0,
        "val_accuracy": None,
        "val_loss": None,
        "seconds": None,
    }


def _best(rows) -> dict[str, object]:
    trained = [row for row in rows if row["state"] == "trained"]
    if not trained:
        raise TrainingStopped("No candidate could be trained; the reasons are above")
    return max(trained, key=lambda row: (row["val_accuracy"], -row["multiply_adds"]))


def _report(rows, best, base, data, max_multiply_adds) -> None:
    """Prints the table, and writes table and figure."""
    workdir = Path(base.output.workdir)
    plots.write_table(workdir / "table.csv", rows)
    write_json(workdir / "table.json", {"best": best["trial"], "rows": rows})
    count = sum(row["trial"] is not None for row in rows)
    plots.search(
        rows,
        workdir / "accuracy.png",
        title=f"Search on {data}, {count} trials, seed {base.optimization.seed}",
        best=best["trial"],
        max_multiply_adds=max_multiply_adds,
    )
    print(text_table([_printed(row) for row in rows]))
    print(
        f"The best is trial {best['trial']}, {best['network']}; it is trained anew",
        flush=True,
    )


def _printed(row) -> dict[str, object]:
    """Returns what of a row goes on a terminal."""
    trained = row["state"] == "trained"
    return {
        "trial": row["trial"] or "-",
        "network": row["network"],
        "dropout": row["dropout"],
        "stoch. depth": row["stochastic_depth"],
        "rate": row["learning_rate"],
        "momentum": row["momentum"],
        "decay": row["weight_decay"],
        "parameters": row["parameters"],
        "multiply_adds": row["multiply_adds"],
        "epochs": row["epochs"],
        "validation accuracy %": f"{100 * row['val_accuracy']:.2f}" if trained else row["state"],
    }
