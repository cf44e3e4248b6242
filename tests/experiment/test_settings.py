"""Settings become the network, the rate and the optimizer that they name."""

import copy
import dataclasses
import json
import logging
import sys
import warnings

import keras
import numpy as np
import pytest

from keras_resnet import cli
from keras_resnet.data import DATASETS, load_dataset, option_names
from keras_resnet.experiment import Data, Devices, Experiment, Network, Optimization, build_model
from keras_resnet.experiment.card import network_text
from keras_resnet.experiment.factories import (
    architecture_of,
    best_keeper,
    fit_options,
    load_data,
    make_optimizer,
    monitored,
)
from keras_resnet.experiment.runner import opened
from keras_resnet.experiment.settings import DataOptions
from keras_resnet.experiment.workdir import expect_settings
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.training import ErrorWarmup, TrainingStopped
from keras_resnet.utils.private import schedule_of
from keras_resnet.utils.terminal import RESULTS
from tests.helpers import refused


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_settings_name_an_architecture():
    assert architecture_of(Network(depth=26)).repeats == (4, 4, 4)
    plain = architecture_of(Network(model="resnet34", shortcut="none"))
    assert (plain.name, plain.shortcut, plain.depth) == ("PlainNet34", None, 34)
    assert architecture_of(Network(model="ResNet20", shortcut="A")).name == "ResNet20"
    assert architecture_of(Network(model="ResNet50", version="v1.5")).name == "ResNet50_v1.5"
    line = architecture_of(
        Network(depth=20, block="bottleneck", widening=2.0, squeeze_excitation=8)
    )
    assert (line.repeats, line.widths, line.stem_filters) == ((2, 2, 2), (32, 64, 128), 32)
    assert (line.name, line.squeeze_excitation) == ("ResNet20x2_bottleneck_se8", 8)
    assert architecture_of(Network(model="SEResNet50", squeeze_excitation=0)).name == "ResNet50"
    plain = architecture_of(Network(depth=14, widening=0.5, shortcut="none"))
    assert (plain.name, plain.widths) == ("PlainNet14x0.5", (8, 16, 32))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"block": "basic"}, ("`block` goes with `depth`", "block='basic'")),
        ({"widening": 2.0}, ("`widening` goes with `depth`", "widening=2.0")),
        ({"depth": 20, "widening": 0.0}, ("widening=0.0",)),
        ({"depth": 18, "block": "bottleneck"}, ("9n+2", "depth=18")),
        ({"squeeze_excitation": -1}, ("squeeze_excitation=-1",)),
        ({"shortcut": "D"}, ("shortcut='D'",)),
        ({"version": "v3"}, ("version='v3'",)),
        ({"model": "densenetbc100_12", "shortcut": "B"}, ("`shortcut`", "DenseNetBC100_12")),
    ],
)
def test_settings_that_name_none(options, named):
    with refused(*named):
        architecture_of(Network(**options))


def test_densely_connected_networks_are_built_too(digits):
    experiment = Experiment.from_flat(model="DenseNetBC100_12", recompute=True)
    assert architecture_of(experiment.network).growth_rate == 12
    text = network_text(architecture_of(experiment.network))
    assert text.startswith("A densely connected network of 100")
    assert build_model(experiment, digits).count_params() > 700_000


def test_learning_rate_of_every_step():
    """Divided by ten at the paper's shares; with a warm-up, in equal parts up to the full one."""
    warmup = {"schedule": "constant", "warmup": "linear", "warmup_share": 0.1}
    for settings, expected in (
        ({"schedule": "steps", "warmup": "none"}, np.repeat([0.1, 0.01, 0.001], [32, 16, 16])),
        (warmup, [*np.arange(1, 11) / 100, *[0.1] * 90]),
    ):
        rate = schedule_of(make_optimizer(Experiment.from_flat(**settings), len(expected)))
        found = [float(rate(step)) for step in range(len(expected))]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "first"), [("ResNet110", 0.01), ("ResNet1202", 0.01), ("ResNet56", 0.1)]
)
def test_warmup_by_error_is_for_the_deepest_cifar_nets(model, first):
    rate = schedule_of(make_optimizer(Experiment.from_flat(model=model, warmup="auto"), 100))
    assert float(rate(0)) == pytest.approx(first)
    for step in range(40 if isinstance(rate, ErrorWarmup) else 0):
        rate.observe(0.5, step + 1)
    assert float(rate(40)) == pytest.approx(0.1)


def test_rate_grows_with_the_batch():
    assert Optimization(base_batch=256, batch_size=1024).peak_rate == pytest.approx(0.4)
    assert Optimization(batch_size=1024).peak_rate == pytest.approx(0.1)


def test_plateau_divides_the_rate_by_ten(digits, tmp_path):
    experiment = Experiment.from_flat(schedule="plateau", warmup="none")
    (callback,) = fit_options(experiment, digits, tmp_path, chief=False)["callbacks"]
    assert (callback.monitor, callback.factor, callback.mode) == ("val_accuracy", 0.1, "max")
    assert float(make_optimizer(experiment, 10).learning_rate) == pytest.approx(0.1)


def test_optimizers_by_name_take_schedule_decay_and_options():
    experiment = Experiment.from_flat(
        optimizer="adamw",
        optimizer_options={"beta_2": 0.9, "amsgrad": True},
        schedule="constant",
        learning_rate=0.003,
        weight_decay=0.05,
        clip_norm=2.0,
        ema=0.9,
        warmup="none",
    )
    assert experiment.recorded()["decay"] == "decoupled"
    assert experiment.optimization.optimizer_options == {"beta_2": 0.9, "amsgrad": True}
    optimizer = make_optimizer(experiment, 10)
    assert type(optimizer) is keras.optimizers.AdamW
    config = optimizer.get_config()
    for name, value in (
        *(("weight_decay", 0.05), ("beta_2", 0.9), ("amsgrad", True), ("global_clipnorm", 2.0)),
        *(("use_ema", True), ("ema_momentum", 0.9)),
    ):
        assert config[name] == value
    assert float(schedule_of(optimizer)(3)) == pytest.approx(0.003)
    assert Experiment.from_flat(**json.loads(json.dumps(experiment.recorded()))).recorded() == (
        experiment.recorded()
    )
    sgd = make_optimizer(Experiment.from_flat(optimizer_options={"nesterov": True}), 10)
    assert sgd.nesterov and (sgd.l2, sgd.weight_decay, sgd.momentum) == (1e-4, None, 0.9)
    assert Experiment().recorded()["decay"] == "l2"


def test_patience_and_best_epochs_go_by_the_monitored_figure(digits, tmp_path):
    experiment = Experiment.from_flat(patience=4, ema=0.9, keep_best=3, keep_checkpoints=5)
    best = best_keeper(experiment, digits)
    options = fit_options(experiment, digits, tmp_path, chief=False, best=best)
    found, stop = options["callbacks"]
    assert found is best and (best.monitor, best.count) == ("ema_val_accuracy", 3)
    assert isinstance(stop, keras.callbacks.EarlyStopping)
    assert (stop.monitor, stop.patience) == ("ema_val_accuracy", 4)
    assert options["checkpoints"].keep == 5
    assert best_keeper(Experiment(), digits).monitor == "val_accuracy"
    assert best_keeper(Experiment.from_flat(keep_best=0), digits) is None
    assert best_keeper(Experiment.from_flat(validation_split="test"), digits) is None
    with_none = copy.copy(digits)
    with_none.sizes = {"train": 10}
    assert monitored(Experiment(), with_none) is None
    for name, value in (("patience", 2), ("final_weights", "best"), ("monitor", "val_loss")):
        with refused(f"`{name}`", "validation images"):
            monitored(Experiment.from_flat(**{name: value}), with_none)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"schedule": "plateau", "warmup": "linear"}, "warmup='linear'"),
        ({"schedule": "stairs"}, "schedule='stairs'"),
        ({"warmup": "slow"}, "warmup='slow'"),
        ({"warmup_share": 1.0}, "warmup_share=1.0"),
        ({"momentum": 1.5}, "momentum=1.5"),
        ({"base_batch": 0}, "base_batch=0"),
        ({"optimizer": "adan"}, "`optimizer` must be one of"),
        ({"optimizer": "adamw", "decay": "l2"}, "`decay` must be 'decoupled' or left out"),
        ({"optimizer": "adamw", "momentum": 0.8}, "`momentum` is of SGD"),
        ({"optimizer_options": {"beta": 1}}, "`optimizer_options` of 'sgd'"),
        ({"optimizer_options": ["nesterov"]}, "`optimizer_options` must be values by name"),
        ({"patience": 0}, "patience=0"),
        ({"patience": 3, "validation_split": "test"}, "with patience=3"),
        ({"final_weights": "first"}, "final_weights='first'"),
        ({"final_weights": "best", "validation_split": "test"}, "with final_weights='best'"),
        ({"final_weights": "best", "keep_best": 0}, "`keep_best` must be"),
        ({"keep_checkpoints": 0}, "keep_checkpoints=0"),
        ({"fine_tune_epochs": -1}, "fine_tune_epochs=-1"),
        ({"precision": "float8"}, "`precision` must be one of 'float32'"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"decay": "L2"}, "decay='L2'"),
        ({"drops": (2.0,)}, "drops=2.0"),
        ({"head_epochs": 2}, "`head_epochs` requires `init`"),
        ({"freeze_bn": True}, "`freeze_bn` requires `init`"),
        ({"rate_decay": 0.5}, "`rate_decay` requires `init`"),
        ({"init": "a.keras", "rate_decay": 2.0}, "`rate_decay` must be in"),
        ({"init": "a.keras", "dropout": 0.5}, "`dropout` must be left out"),
        ({"init": "a.keras", "recompute": True}, "`recompute` must be left out"),
        ({"init": "a.keras", "freeze_bn": True, "recompute_bn": True}, "`recompute_bn` must be"),
    ],
)
def test_wrong_settings_are_named(settings, named):
    with refused(named):
        Experiment.from_flat(**settings)


def test_settings_have_one_name_in_all_groups():
    """As flags and in config.json they stand without their group."""
    groups = vars(Experiment()).values()
    assert len(Experiment().flat()) == sum(len(vars(group)) for group in groups)
    changed = Experiment().replace(learning_rate=0.5, model="ResNet32", gpus=2)
    assert changed == Experiment(
        Network("ResNet32"), optimization=Optimization(learning_rate=0.5), devices=Devices(gpus=2)
    )
    assert changed.replace(gpus=None, learning_rate=0.1, model="ResNet20") == Experiment()
    with refused("rate", "rate=0.5"):
        Experiment().replace(rate=0.5)


def test_precision_is_that_of_before_after_a_run(tmp_path):
    experiment = Experiment.from_flat(precision="mixed_bfloat16", workdir=str(tmp_path))
    with opened(experiment, lambda: None):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_settings_survive_json():
    experiment = Experiment.from_flat(drops=(0.3, 0.6), crop="scale", resize_range=(64, 80))
    stored = json.loads(json.dumps(experiment.flat()))
    assert Experiment.from_flat(**stored) == experiment


class TestParser:
    presets = {
        "paper": Experiment.from_flat(dataset="folder", steps=100, crop="scale"),
        "modern": Experiment.from_flat(schedule="cosine", epochs=7),
    }

    def parse(self, *words):
        return cli.parse_experiment(words, "text", self.presets, cli.Arguments)[0]

    def test_without_flags_it_is_the_first_preset(self):
        assert self.parse() == self.presets["paper"]
        assert self.parse("--preset", "modern") == self.presets["modern"]

    def test_every_setting_has_a_flag_and_a_help_text(self, capsys):
        with pytest.raises(SystemExit):
            self.parse("--help")
        text = capsys.readouterr().out
        for name in Experiment().flat():
            assert f"--{name.replace('_', '-')}" in text
        for flag in ("model", "dataset", "data-dir", "workdir", "gpus", "virtual-devices"):
            assert f"--{flag}" in text

    def test_flags_replace_single_settings(self):
        parsed = self.parse("--gpus", "8", "--deterministic", "--no-resume", "--drops", "0.3")
        assert (parsed.devices.gpus, parsed.devices.deterministic) == (8, True)
        assert not parsed.output.resume
        assert parsed.optimization.drops == (0.3,) and parsed.optimization.steps == 100

    def test_epochs_take_the_place_of_a_presets_steps(self):
        parsed = self.parse("--epochs", "3")
        assert (parsed.optimization.epochs, parsed.optimization.steps) == (3, None)

    def test_options_of_the_data_are_flags(self):
        words = ("--image-size", "64", "--crop", "inception", "--no-flip", "--resize-range", "64")
        parsed = self.parse(*words, "80", "--classes", "7", "8")
        assert parsed.data.options == {
            **{"image_size": 64, "crop": "inception", "flip": False},
            **{"resize_range": (64, 80), "classes": (7, 8)},
        }

    def test_every_option_of_a_data_set_is_a_setting(self):
        settings = {field.name for field in dataclasses.fields(DataOptions)} | {"data_dir"}
        assert {name for data in DATASETS for name in option_names(data)} == settings

    def test_an_option_that_the_data_set_does_not_take_is_named(self):
        with refused("lighting", "no option of the data set 'digits'", "lighting=0.0"):
            load_data(Data("digits", lighting=0.0))

    @pytest.mark.parametrize("earlier", [True, False])
    def test_config_of_a_run_gives_the_same_experiment(self, tmp_path, earlier):
        options = {"image_size": 64, "resize_range": (64, 80), "flip": False}
        experiment = self.presets["paper"].replace(**options)
        config = experiment.recorded()
        if earlier:
            for name in (field.name for field in dataclasses.fields(DataOptions)):
                del config[name]
            config["data_options"] = {"crop": "scale", **options}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        assert self.parse("--config", str(path)) == experiment.replace(decay="l2")
        assert Experiment.from_flat(**config) == experiment.replace(decay="l2")
        assert expect_settings(path, experiment.recorded(), of="run")

    def test_another_data_set_takes_its_own_options_only(self):
        assert self.parse("--dataset", "digits").data.options == {}
        assert self.parse("--dataset", "imagenet2012").data.options == {"crop": "scale"}

    def test_malformed_numbers_end_with_code_2(self, capsys):
        with pytest.raises(SystemExit) as exit:
            self.parse("--gpus", "many")
        assert exit.value.code == 2
        assert "--gpus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("wrong\nand more"), 2),
        (TrainingStopped("wrong"), 1),
        (ExportMismatchError("wrong\nand more"), 1),
    ],
)
def test_errors_and_warnings_are_one_line_each(capsys, error, code):
    def main():
        # As the process would show it, were it not for pytest.
        shown = warnings.formatwarning(UserWarning("Bad image 1\nand more"), UserWarning, "a.py", 1)
        print(shown, end="", file=sys.stderr)
        raise error

    with pytest.raises(SystemExit) as exit:
        cli.run(main)
    assert exit.value.code == code
    assert capsys.readouterr().err == "warning: Bad image 1\nerror: wrong\n"


def test_what_the_package_logs_is_plain_lines_on_standard_error(capsys, monkeypatch):
    def main():
        RESULTS.info("a table")
        logger = logging.getLogger("keras_resnet.experiment.runner")
        logger.info("ResNet20: 98 % of 360\nin two lines")
        logger.debug("not shown")
        raise TrainingStopped("the disk is full\nand more")

    # As a library may set one up, on standard error.
    of_the_root = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers, of_the_root])
    for _ in range(2):  # shown once, however often recipes run in one process
        with pytest.raises(SystemExit) as exit:
            cli.run(main)
        assert exit.value.code == 1
        found = capsys.readouterr()
        assert found.out == "a table\n"
        assert found.err == "ResNet20: 98 % of 360\nin two lines\nerror: the disk is full\n"
    assert logging.getLogger("keras_resnet").propagate
