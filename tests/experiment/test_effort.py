"""What training took: images, multiply-adds and energy, with counters that a test turns."""

from __future__ import annotations

import pytest
import tensorflow as tf

from keras_resnet.analysis.energy import Meter
from keras_resnet.experiment import Experiment, effort, run, runner
from keras_resnet.experiment.card import model_card
from keras_resnet.experiment.effort import CountEnergy, energy_text
from keras_resnet.training import Checkpoints, trackers
from keras_resnet.training.trackers import Tracker
from tests.evaluation.test_classes import colors
from tests.experiment.test_card import METRICS
from tests.experiment.test_runner import SETTINGS
from tests.training.fakes import fit, make_trainer


class Counter:
    """A counter of energy that moves on by so many joules each time it is read."""

    def __init__(self, joules: float, fails_at: int | None = None):
        self.reads, self.joules, self.fails_at = 0, joules, fails_at

    def read(self):
        self.reads += 1
        if self.reads == self.fails_at:
            raise OSError("no longer")
        return [round(1000 * self.joules * self.reads)]

    def meter(self, name):
        return Meter(name, self.read, 1e3, [2**64])


def test_energy_is_the_sum_of_all_readings_but_the_first(monkeypatch):
    monkeypatch.setattr(effort, "READ_EVERY", 0.0)
    counters = Counter(0.5), Counter(2.0), Counter(0.0)
    counted = CountEnergy([one.meter(name) for one, name in zip(counters, "abc", strict=True)])
    trainer = fit(make_trainer(), 4, callbacks=[counted])
    assert counters[0].reads > 4
    assert counted.joules == pytest.approx(
        {"a": 0.5 * (counters[0].reads - 1), "b": 2.0 * (counters[1].reads - 1), "c": 0.0}
    )
    assert 0 < counted.seconds <= trainer.seconds
    figures = effort.effort_figures(4, 32, 1000, [counted, counted])
    assert (figures["images_seen"], figures["trained_multiply_adds"]) == (128, 128_000)
    assert figures["energy_counters"] == ["a", "b"]
    assert figures["energy_joules"] == pytest.approx(2 * sum(counted.joules.values()), abs=0.1)


def test_a_run_that_resumes_has_what_it_had_counted(tmp_path):
    parts = []
    for steps in (2, 4):
        counted = CountEnergy([Counter(1.0).meter("RAPL")])
        options = {"checkpoints": Checkpoints(tmp_path), "callbacks": [counted]}
        fit(make_trainer(), steps, **options)
        parts.append((counted.joules["RAPL"], counted.seconds))
    assert parts[1][0] > parts[0][0] >= 1.0 and parts[1][1] > parts[0][1]


def test_a_counter_that_fails_makes_no_figure(monkeypatch):
    monkeypatch.setattr(effort, "READ_EVERY", 0.0)
    counted = CountEnergy([Counter(1.0, fails_at=3).meter("NVML")])
    fit(make_trainer(), 4, callbacks=[counted])
    assert counted.joules == {}
    figures = effort.effort_figures(4, 32, None, [counted])
    assert figures["energy_joules"] is None and "energy_seconds" not in figures
    assert "not measurable" in energy_text(figures)
    assert energy_text({}) == ""


def test_meters_are_those_of_the_devices_in_use(monkeypatch):
    asked = []
    monkeypatch.setattr(effort, "rapl_meter", lambda: None)
    monkeypatch.setattr(effort, "nvml_meter", lambda count: asked.append(count) or "nvml")
    assert effort.meters_of(tf.distribute.get_strategy()) == [] and asked == []
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0", "GPU:1"])
    assert effort.meters_of(tf.distribute.get_strategy()) == ["nvml"] and asked == [1]


def test_a_run_tells_what_it_took_in_its_figures_and_card(tmp_path, monkeypatch):
    made = []

    class Notes(Tracker):
        name = "json"  # a module that is always there

        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

        def _open(self, identity):
            return "one"

        def _send(self, values, step):
            pass

        def _conclude(self, figures, files):
            self.concluded = figures

        def _end(self, finished):
            pass

    counter = Counter(3000.0)
    monkeypatch.setattr(runner, "meters_of", lambda strategy: [counter.meter("RAPL")])
    monkeypatch.setitem(trackers._TRACKERS, "mlflow", Notes)
    monkeypatch.setattr("keras_resnet.experiment.preflight.expect_installed", lambda names: None)
    options = {**SETTINGS, "epochs": 1, "trackers": ["mlflow"], "workdir": str(tmp_path)}
    figures = run(Experiment.from_flat(**options))
    assert figures["images_seen"] == figures["steps"] * 40
    expected = figures["images_seen"] * figures["multiply_adds"]
    assert figures["trained_multiply_adds"] == expected
    assert figures["energy_joules"] == pytest.approx(3000.0 * (counter.reads - 1))
    card = (tmp_path / "model_card.md").read_text()
    assert f"| images seen in training | {figures['images_seen']:,} |" in card
    assert f"| energy of training | {energy_text(figures)} |" in card
    assert " kJ in " in energy_text(figures)
    # The tracker that heard of training hears of its end.
    (notes,) = made
    assert notes.concluded["final/images_seen"] == figures["images_seen"]
    # Runs of earlier versions say nothing of it.
    assert "images seen" not in model_card("n", "A network", colors("abc"), {"export": 0}, METRICS)
