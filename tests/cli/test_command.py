"""The command and the recipes as such: help, version, Ctrl-C, and what a verb makes of flags."""

import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

import keras_resnet
from keras_resnet import experiment
from keras_resnet.cli import check_data
from keras_resnet.experiment import Experiment
from keras_resnet.experiment.search import searching
from keras_resnet_command import VERBS
from tests.recipes.running import ROOT, refused, run_here
from tests.snapshot.describe import HELP, helps


def test_help_and_version_do_without_tensorflow(subprocess_python):
    script = """
import sys, keras_resnet_command
for flag in ("--help", "--version"):
    sys.argv = ["keras-resnet", flag]
    keras_resnet_command.main()
print("tensorflow" in sys.modules, "keras_resnet" in sys.modules)
"""
    *text, version, imported = subprocess_python(script).stdout.splitlines()
    assert [line.split()[0] for line in text if line.startswith("  ")] == list(VERBS)
    assert version == f"keras-resnet {keras_resnet.__version__}" and imported == "False False"


def test_help_of_verbs_is_what_they_make():
    """`python -m tests.snapshot.make help` writes it anew."""
    texts = helps()
    assert {path.stem: path.read_text("utf-8") for path in HELP.glob("*.txt")} == texts
    assert all(text in texts[verb] for verb, text in VERBS.items())


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_completes_verbs_and_flags(shell):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = run_here("--print-completion", shell)
    if shell == "zsh":
        subprocess.run([program, "-c", script], check=True, capture_output=True)
        return
    for words, expected in ((["ev"], "evaluate"), (["train", "--freeze"], "--freeze-bn")):
        line = f"COMP_WORDS=(keras-resnet {' '.join(words)}) COMP_CWORD={len(words)}"
        script += f"\n{line}; _keras_resnet; echo ${{COMPREPLY[*]}}\n"
        found = subprocess.run([program, "-c", script], check=True, capture_output=True, text=True)
        assert found.stdout.split()[-1] == expected


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "recipes").glob("*.py")))
def test_help_of_a_recipe_has_a_command(name):
    command = f"python recipes/{name}"
    assert command in (ROOT / "recipes" / name).read_text(encoding="utf-8")
    text = run_here(name, "--help")
    assert text.startswith(f"usage: {name} ")
    assert command in text or f"keras-resnet {name[:-3].replace('_', '-')} " in text


@pytest.mark.parametrize("verb", ["", "fly"])
def test_an_unknown_verb_is_one_line(verb):
    refused(f"Received: {verb!r}", verb)


@pytest.mark.parametrize(
    ("words", "module", "called", "expected"),
    [
        (("train",), experiment, "run", Experiment()),
        (("train", "--gpus", 2), experiment, "run", Experiment.from_flat(gpus=2)),
        (
            ("tune",),
            searching,
            "search",
            Experiment.from_flat(epochs=8, workdir="runs/tune", export=False),
        ),
    ],
    ids=["train", "train with a flag", "tune"],
)
def test_without_presets_a_verb_starts_from_the_defaults(
    words, module, called, expected, monkeypatch
):
    given = []
    monkeypatch.setattr(
        module, called, lambda base, *_, **__: given.append(base) or {"split": "test"}
    )
    run_here(*words)
    assert given == [expected]


def test_check_data_ends_with_1_where_it_finds_faults(tmp_path, monkeypatch):
    for name in ("dog", "cat"):
        (tmp_path / "train" / name).mkdir(parents=True)
        picture = tmp_path / "train" / name / "1.png"
        Image.effect_noise((9, 9), 99).save(picture)
    printed = run_here("check-data", tmp_path).splitlines()
    assert printed[0] == "train: 2 images" and printed[-1].startswith("few images: 2.")
    Image.effect_noise((9, 9), 99).save(picture.with_suffix(".jpg"))
    monkeypatch.setattr("keras_resnet.data.check._strict_decoder", lambda: None)
    assert "Damage inside of 1 JPEGs was not looked for" in run_here("check-data", tmp_path)
    picture.write_bytes(b"")
    with pytest.raises(SystemExit) as exit:
        run_here("check-data", tmp_path)
    assert exit.value.code == 1


def test_check_data_shows_no_control_characters(tmp_path, capsys):
    root = tmp_path / "a\x1b[2J"
    for place in ("train/dog", "train/cat", "val/cow"):
        (root / place).mkdir(parents=True)
    with pytest.raises(SystemExit):
        check_data.main([str(root)])
    said = capsys.readouterr().out
    assert r"val/cow: unknown class (not in " in said and r"a\x1b[2J/train)" in said
    assert all(line.isprintable() for line in said.splitlines())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            ("train", "--config", "no.toml"),
            "an existing file of TOML, YAML or JSON. Received: config=",
        ),
        (
            ("--print-completion", "fish"),
            "`--print-completion` must be bash or zsh. Received: 'fish'",
        ),
        (("check-data", "nofolder"), "`folder` must be an existing folder. Received: folder="),
        (("summary", "no.keras"), "`model` must be an existing .keras file. Received: model="),
        (
            ("predict", "no.keras", "a.png"),
            "`model` must be an existing .keras, .tflite or .onnx file",
        ),
        (("responses", "--models", "no.keras"), "`models` must be an existing .keras file"),
        (
            ("train", "--teacher", "no.keras"),
            "`teacher` must be an existing .keras, .tflite or .onnx file",
        ),
    ],
)
def test_an_error_names_what_was_typed(words, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(named, *words)


@pytest.mark.parametrize("verb", ["compare", "evaluate", "responses"])
def test_a_folder_that_is_a_file_is_refused_before_anything_is_read(verb, tmp_path):
    (tmp_path / "file").touch()
    models = ["--models", tmp_path / "none.keras"]
    for workdir in (tmp_path / "file", tmp_path / "file" / "run", ""):
        refused(f"workdir={str(workdir)!r}", verb, *models, "--workdir", workdir)


# Before the first line it is the interpreter that works.
COMMAND = "import keras_resnet_command as command; print(flush=True); command.main()"
RECIPE = """
import runpy, sys, keras_resnet_command
print(flush=True)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("script", "words", "seconds"),
    [
        (COMMAND, ["models", "--count"], (0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 1.8)),
        (RECIPE, ["recipes/digits.py", "--workdir", "{tmp_path}"], (0.7,)),
    ],
    ids=["command", "recipe"],
)
def test_ctrl_c_during_imports_is_one_line(script, words, seconds, tmp_path):
    for delay in seconds:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *(word.format(tmp_path=tmp_path) for word in words)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        # Before it may be lines of TensorFlow's.
        assert errors.splitlines()[-1] == "interrupted" and "Traceback" not in errors
        assert process.returncode == 130
