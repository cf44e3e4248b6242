"""Flags made of dataclasses: short names, files of settings, types, and errors in one line."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
from tyro.conf import Positional

from keras_resnet import cli
from keras_resnet.experiment import Experiment
from tests.helpers import refused

PRESETS = {"default": Experiment.from_flat(steps=9)}


@dataclasses.dataclass(frozen=True)
class Own(cli.Arguments):
    """Arguments of a verb.

    Attributes:
        model: A model.
        kind: A kind.
        sizes: Some sizes.
        about: Some facts.
        mirrored: Whether mirrored.
        output: A file.
    """

    model: Positional[str]
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] | None = None
    about: Mapping[str, object] = dataclasses.field(default_factory=dict)
    mirrored: bool | None = None
    output: Path | None = None


def own(*words):
    return cli.parse(Own, words, "text")


def experiment(*words):
    return cli.parse_experiment(words, "text", PRESETS, cli.Arguments)[0]


def test_every_type_of_a_field():
    words = ("x", "--sizes", "3", "4", "--about", "n=2", "s=text", "--no-mirrored", "-o", "f")
    about = {"n": 2, "s": "text"}
    assert own(*words) == Own("x", sizes=(3, 4), about=about, mirrored=False, output=Path("f"))
    assert own("x", "--mirrored") == Own("x", mirrored=True)
    assert own("x") == Own("x")


def test_help_has_texts_defaults_and_choices(capsys):
    with pytest.raises(SystemExit) as end:
        own("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0 and "--kind {a,b} A kind. (default: a)" in text


def test_help_names_flags_for_settings(capsys):
    with pytest.raises(SystemExit):
        experiment("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "For --crop scale: smallest and largest shorter side" in text
    assert "`resize_range`" not in text and "`warmup_share`" not in text


def test_short_names():
    assert experiment("--lr", "0.3", "--wd=0.01", "-b", "4", "-o", "x", "-e", "2") == (
        Experiment.from_flat(
            learning_rate=0.3, weight_decay=0.01, batch_size=4, workdir="x", epochs=2
        )
    )


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("toml", 'learning-rate = 0.7\ndrops = [0.1, 0.2]\n[network]\nmodel = "ResNet32"\n'),
        ("yaml", "learning_rate: 0.7\ndrops: [0.1, 0.2]\nnetwork:\n  model: ResNet32\n"),
        ("yml", "lr: 0.7\ndrops: [0.1, 0.2]\nmodel: ResNet32\n"),
        ("json", '{"learning_rate": 0.7, "drops": [0.1, 0.2], "model": "ResNet32"}'),
    ],
)
def test_flags_overrule_a_file(tmp_path, suffix, text):
    path = tmp_path / f"config.{suffix}"
    path.write_text(text)
    expected = PRESETS["default"].replace(learning_rate=0.7, drops=(0.1, 0.2), model="ResNet32")
    assert experiment("--config", str(path)) == expected
    assert experiment(f"--config={path}", "--lr", "1") == expected.replace(learning_rate=1.0)


def test_the_settings_of_an_earlier_run(tmp_path):
    earlier = Experiment.from_flat(steps=64, jit_compile=True, resume=False, drops=(), per_class=5)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(earlier.flat()))
    assert experiment("--config", str(path)) == earlier
    again = experiment("--config", str(path), "--epochs", "3")
    assert again == earlier.replace(epochs=3, steps=None)


def test_the_command_line_decides_between_epochs_and_steps(tmp_path):
    path = tmp_path / "config.yaml"
    for text, words, epochs, steps in (
        ("epochs: 3", (), 3, None),
        ("epochs: 3", ("--steps", "5"), 3, 5),
        ("epochs: 3", ("--steps=5",), 3, 5),
        ("epochs: 3", ("--steps", "9"), 3, 9),  # the preset's
        ("steps: 5", ("-e", "3"), 3, None),
        ("epochs: 4\nsteps: 5", ("--epochs", "3"), 3, None),
        ("epochs: 3\nsteps: 5", (), 3, 5),
    ):
        path.write_text(text)
        given = experiment("--config", str(path), *words).optimization
        assert (given.epochs, given.steps) == (epochs, steps), (text, words)


def test_a_null_of_a_file_is_no_value(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"steps": null, "learning_rate": null, "data_dir": null, "ema": null}')
    assert experiment("--config", str(path)) == PRESETS["default"].replace(steps=None)
    assert experiment("--config", str(path), "--steps", "5").optimization.steps == 5
    path.write_text(
        '{"kind": null, "sizes": null, "mirrored": null, "output": null, "about": null}'
    )
    assert own("x", "--config", str(path)) == Own("x", config=path)


def test_a_file_can_name_the_preset(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"preset": "short", "seed": 3}')
    presets = PRESETS | {"short": Experiment.from_flat(steps=2), "long": Experiment()}

    def parsed(*words, presets=presets):
        words = ("--config", str(path), *words)
        return cli.parse_experiment(words, "text", presets, cli.Arguments)[0]

    assert parsed() == presets["short"].replace(seed=3)
    assert parsed("--preset", "long") == presets["long"].replace(seed=3)
    with refused("config", "preset"):
        parsed(presets=PRESETS)
    path.write_text('{"preset": "nope"}')
    with refused("preset", "nope"):
        parsed()


def test_errors_advise_flags_as_typed(capsys):
    def main():
        own("x", "-o", "there")
        advice = "`path` must be free with mirrored=True, mirrored=False, kind='b' or other=True."
        raise ValueError(f"{advice} Received: path='there', steps=1")

    with pytest.raises(SystemExit):
        cli.run(main)
    assert capsys.readouterr().err == (
        "error: `output` must be free with --mirrored, --no-mirrored, --kind b or other=True. "
        "Received: output='there', steps=1\n"
    )


def test_unknown_keys_are_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("modle: ResNet32\nrate: 1\nepochs: 3\n")
    with refused("config", "modle, rate"):
        experiment("--config", str(path))
    path.write_text("[1, 2]")
    with refused("config"):
        experiment("--config", str(path))
    path.write_text("a: [")
    with refused("config"):
        own("x", "--config", str(path))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("x", "--sizes", "many"), "--sizes"),
        (("x", "--nonsense", "3"), "--nonsense"),
        (("x", "--output"), "-o/--output"),
        ((), "MODEL"),
    ],
)
def test_a_wrong_word_is_one_line(words, named, capsys):
    with pytest.raises(SystemExit) as end:
        own(*words)
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and line.startswith("error: ") and named in line


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError, match="batch_size=0\\n.*learning_rate=-1"):
        experiment("--lr", "-1", "-b", "0")
