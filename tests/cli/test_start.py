"""The start of the command: flags before TensorFlow, signals at any moment, and a quiet log."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
from PIL import Image

from keras_resnet.cli import train
from keras_resnet.cli.completion import completion_script
from keras_resnet.cli.flags import PRINT_FLAGS
from keras_resnet.data.loading import _LOADERS
from keras_resnet.data.names import DATASETS
from keras_resnet.training import optimizers
from keras_resnet.training.augment import _LAYERS, AUGMENTS
from keras_resnet.training.choices import OPTIMIZERS, TRACKERS
from keras_resnet.training.trackers import _TRACKERS
from keras_resnet.utils.terminal import notices
from keras_resnet_command import VERBS
from tests.conftest import ENVIRONMENT, ROOT
from tests.recipes.running import save_untrained
from tests.snapshot.nets import STORED

# Wrong flags, types, choices, numbers and names, and where each is told.
WRONG = (
    "train --nonsense",
    "train --epochs x",
    "train --epochs 0",
    "train --augment nope",
    "train --dataset nope",
    "train --optimizer nope",
    "train --monitor val_acc",
    "train --model ResNet51",
    "train --depth 7",
    "train --workdir {file}",
    "train --dataset folder --data-dir nofolder",
    "evaluate --models a.keras --protocol nope",
    "export a.keras b --quantize nope",
    "models --family nope",
    "predict",
    "summary ResNet51",
    "study nope",
    "study shortcuts --shortcuts X",
    "study transfer --batch-size 0",
    "tune --repeats 0",
    "train --config nofile.toml",
    "models --config nofile.yaml",
    "--print-completion",
    "--print-completion fish",
)

_NO_TENSORFLOW = """
import contextlib, io, json, sys
import keras_resnet_command as command
found = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["keras-resnet", *words]
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command.main()
        except SystemExit as end:
            code = end.code or 0
    heavy = sorted({"keras", "tensorflow"} & set(sys.modules))
    found.append([code, out.getvalue(), err.getvalue(), heavy])
print(json.dumps(found))
"""


def _without_tensorflow(subprocess_python, *lines):
    """Runs commands in one process; returns the code and the streams of each."""
    words = json.dumps([line.split() for line in lines])
    answers = json.loads(subprocess_python(_NO_TENSORFLOW, words).stdout)
    for line, (*_, heavy) in zip(lines, answers, strict=True):
        assert heavy == [], line
    return [answer[:3] for answer in answers]


def test_help_of_every_verb_does_without_tensorflow(subprocess_python):
    lines = [f"{verb} --help" for verb in VERBS] + ["study deepen -h", "--print-completion bash"]
    for code, out, err in _without_tensorflow(subprocess_python, *lines):
        assert code == 0 and out and err == ""


def test_help_of_every_recipe_does_without_tensorflow(subprocess_python):
    script = """
import contextlib, runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    with contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name="__main__")
    assert not {"keras", "tensorflow"} & set(sys.modules), path
"""
    recipes = sorted((ROOT / "recipes").glob("*.py"))
    done = subprocess_python(script, *recipes)
    assert done.stdout.count("usage: ") == len(recipes) and done.stderr == ""


def test_wrong_flags_are_told_without_tensorflow(subprocess_python, tmp_path):
    (tmp_path / "file").touch()
    lines = [line.format(file=tmp_path / "file") for line in WRONG]
    for line, (code, out, err) in zip(
        lines, _without_tensorflow(subprocess_python, *lines), strict=True
    ):
        assert (code, out) == (2, ""), line
        assert err.startswith("error: ") and "Traceback" not in err, line


def test_all_wrong_settings_are_told_at_once(subprocess_python):
    line = "train --epochs 0 --augment nope --model ResNet51 --dataset nope"
    [(_, _, err)] = _without_tensorflow(subprocess_python, line)
    for name in ("epochs", "augment", "model", "dataset"):
        assert sum(one.startswith(f"error: `{name}` ") for one in err.splitlines()) == 1


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "--epochs", "x"]])
def test_as_a_module_too(words):
    command = [sys.executable, "-X", "importtime", "-m", "keras_resnet", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == (2 if "x" in words else 0)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "keras_resnet" in imported and not {"keras", "tensorflow"} & imported


def test_names_that_are_checked_without_keras_are_those_that_there_are():
    assert set(OPTIMIZERS) == set(optimizers.OPTIMIZERS)
    assert set(AUGMENTS) == set(_LAYERS)
    assert set(TRACKERS) == {"tensorboard", *_TRACKERS}
    assert set(DATASETS) == set(_LOADERS)


@pytest.mark.parametrize("first", ["keras_resnet", "keras, keras_resnet"])
def test_the_mere_import_lets_keras_find_our_layers(first, subprocess_python):
    script = f"""
import sys, {first}
from keras.saving import load_model
for path in sys.argv[1:]:
    print(type(load_model(path)).__name__)
"""
    files = [STORED / f"{name}.keras" for name in ("model", "options", "maps")]
    assert len(subprocess_python(script, *files).stdout.split()) == len(files)


def test_in_a_process_of_the_command_names_are_there_when_they_are_asked_for(subprocess_python):
    script = """
import sys, keras_resnet_command
import keras_resnet, keras_resnet.training
before = "keras" in sys.modules
from keras_resnet import *
import keras
files = [keras.saving.load_model(path) for path in sys.argv[1:]]
assert ResNet50 is keras_resnet.models.ResNet50 and backbone and __version__
assert set(keras_resnet.__all__) <= set(dir(keras_resnet))
assert set(keras_resnet.training.__all__) <= set(dir(keras_resnet.training))
assert keras_resnet.analysis.plots.forms.timings
try:
    keras_resnet.nonsense
except AttributeError as error:
    print(before, len(files), error)
"""
    done = subprocess_python(script, STORED / "options.keras")
    assert done.stdout == "False 1 module 'keras_resnet' has no attribute 'nonsense'\n"


# Stands still in the import of a module that is named, and says so.
_STANDS_STILL = """
import sys, time
module = sys.argv.pop(1)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Finder())
import keras_resnet_command
keras_resnet_command.main()
"""


@pytest.mark.parametrize("module", ["keras_resnet", "tyro", "tensorflow"])
@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_signals_during_an_import_are_one_line(module, number, line):
    process = subprocess.Popen(
        [sys.executable, "-c", _STANDS_STILL, module, "models", "resnet18"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert errors == f"{line}\n" and process.returncode == 128 + number


@pytest.mark.parametrize("module", ["keras_resnet.utils.terminal", "keras_resnet.models"])
def test_an_interrupt_is_one_line_from_the_begin_of_a_module_on(module, tmp_path):
    """Python itself imports `sitecustomize` in front of everything else."""
    still, _, _ = _STANDS_STILL.partition("import keras_resnet_command")
    still = still.replace("sys.argv.pop(1)", repr(module))
    (tmp_path / "sitecustomize.py").write_text(still)
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_resnet", "models"],
        cwd=ROOT,
        env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (errors, process.returncode) == ("interrupted\n", 130)


def test_a_crash_of_native_code_is_told(subprocess_python):
    script = """
import os, signal
import keras_resnet_command
os.kill(os.getpid(), signal.SIGSEGV)
"""
    done = subprocess_python(script, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.startswith("Fatal Python error: Segmentation fault")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_so(number, subprocess_python):
    script = f"""
import os, signal, sys
signal.signal({int(number)}, signal.SIG_IGN)
import keras_resnet_command
sys.argv = ["keras-resnet", "--version"]
os.kill(os.getpid(), {int(number)})
keras_resnet_command.main()
"""
    assert subprocess_python(script).stdout.startswith("keras-resnet ")


def _models(*words):
    """Runs a verb that imports TensorFlow in a process whose log is as a user's."""
    inherited = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    return subprocess.run(
        [sys.executable, "-m", "keras_resnet", "models", "resnet18", *words],
        cwd=ROOT,
        env=inherited,
        capture_output=True,
        text=True,
        check=True,
    )


def test_tensorflow_says_nothing_unless_asked():
    done = _models()
    assert "resnet18" in done.stdout.lower() and done.stderr == ""
    assert "oneDNN" in _models("--verbose").stderr


def test_quiet_has_no_lines_of_converters_and_kernels(subprocess_python, tmp_path):
    for package in ("ai_edge_litert", "onnx", "tf2onnx"):
        pytest.importorskip(package)
    model = save_untrained(tmp_path, channels=3, labels="ab")
    Image.effect_noise((8, 8), 99).convert("RGB").save(tmp_path / "a.png")
    lines = (
        f"export {model} int8.tflite --quantize int8 --calibration {tmp_path}",
        f"export {model} net.onnx",
        f"predict {model} {tmp_path / 'a.png'}",
    )
    script = """
import logging, sys
import keras_resnet_command as command
for line in sys.argv[1:]:
    sys.argv = ["keras-resnet", *line.split(), "--quiet"]
    command.main()
logging.getLogger("absl").warning("nothing for a user")
"""
    done = subprocess_python(script, *lines)
    assert done.stderr == "" and (tmp_path / "int8.tflite").exists()


def test_errors_of_tensorflow_are_shown_even_of_a_process_that_ends(subprocess_python):
    script = """
import os, keras_resnet_command
from keras_resnet.utils.terminal import notices_left_out
with notices_left_out():
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are\\n")
    os.write(2, b"I0000 00:00:1.0 1 port.cc:153] oneDNN custom operations are on.\\n")
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
    os.write(2, b"E0000 00:00:1.0 1 cuda_dnn.cc:1] a real error\\n")
    os.write(2, b"F0000 00:00:1.0 1 cpu_feature_guard.cc:1] the last words")
    os._exit(3)
"""
    done = subprocess_python(script, check=False)
    assert done.returncode == 3
    told = [line.partition("] ")[2] for line in done.stderr.splitlines()]
    assert told == ["a real error", "the last words"]


def test_only_a_missing_gpu_is_no_error():
    start = "E0000 00:00:1765.1 1 cuda_platform.cc:51] failed call to cuInit: INTERNAL: CUDA error:"
    absent = f"{start} : CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected"
    library = f"{start} Failed call to cuInit: UNKNOWN ERROR (303)"
    driver = f"{start} CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: system has unsupported display driver"
    for devices, expected in (([], [True, True, False]), (["/dev/nvidia0"], [True, False, False])):
        found = [bool(re.match(notices(devices), line)) for line in (absent, library, driver)]
        assert found == expected


def test_a_process_that_keeps_standard_error_does_not_hold_the_command(subprocess_python):
    script = """
import subprocess, time
from keras_resnet.utils.terminal import notices_left_out
with notices_left_out():
    # Not a child of which the caller would read.
    process = subprocess.Popen(["sleep", "30"], stdout=subprocess.DEVNULL)
start = time.monotonic()
process.kill()
"""
    prelude = "import time, keras_resnet_command\nbefore = time.monotonic()\n"
    done = subprocess_python(prelude + script + "print(start - before < 20)")
    assert done.stdout == "True\n"


def test_standard_error_may_be_closed():
    command = shlex.join([sys.executable, "-m", "keras_resnet", "models", "resnet18", "--json"])
    for closed, printed in ((command, True), (f"{command} --family nope", False)):
        done = subprocess.run(
            f"{closed} 2>&-", shell=True, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == (0 if printed else 2)
        assert bool(json.loads(done.stdout)) if printed else done.stdout == ""


def test_a_failed_import_is_told_each_time(subprocess_python):
    script = """
import sys, keras_resnet_command, keras_resnet
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise ImportError("libnothing.so")
sys.meta_path.insert(0, finder := Finder())
for name in ("ResNet50", "backbone", "training"):
    try:
        print(getattr(keras_resnet, name).Trainer)
    except ImportError as error:
        print(error)
sys.meta_path.remove(finder)
print(keras_resnet.ResNet50.__name__, hasattr(keras_resnet, "a.b"), hasattr(keras_resnet, ""))
"""
    told = subprocess_python(script).stdout.splitlines()
    assert told == ["libnothing.so"] * 3 + ["ResNet50 False False"]


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        ("ModuleNotFoundError('no', name='tensorflow')", "missing", "pip install tensorflow"),
        (
            "ImportError('Traceback\\nImportError: libcu.so\\n\\nFailed to load')",
            "broken",
            "libcu.so",
        ),
    ],
)
def test_doctor_tells_what_is_wrong_with_tensorflow(error, state, words, subprocess_python):
    script = f"""
import importlib.metadata as metadata, sys, keras_resnet_command
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise {error}
sys.meta_path.insert(0, Finder())
def requires(name):
    raise metadata.PackageNotFoundError(name)
metadata.requires = requires
sys.argv = ["keras-resnet", "doctor"]
keras_resnet_command.main()
"""
    done = subprocess_python(script, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[-1].startswith(state) and words in lines[-1]
    assert any(line.startswith("ok      keras_resnet ") for line in lines)
    assert any("pip install -e ." in line for line in lines)


def test_flags_with_choices_are_complete(capsys):
    with pytest.raises(SystemExit):
        train.main([PRINT_FLAGS])
    flags = json.loads(capsys.readouterr().out)
    assert flags["--loss"] == ["cross_entropy", "bce"] and "ResNet50" in flags["--model"]
    assert flags["--epochs"] == [] and "adamw" in flags["--optimizer"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("study deg", {"degradation"}),
        ("study deepen --more", {"--more-epochs"}),
        ("train --loss ", {"cross_entropy", "bce"}),
        ("train --augment tri", {"trivial"}),
        ("train --optimizer adamw --loss b", {"bce"}),
        ("train --loss bce --freeze", {"--freeze-bn"}),
        ("evaluate --models a.keras --protocol ten", {"ten-crop"}),
        ("summary ResNet15", {"ResNet152", "ResNet152V2", "ResNet152D"}),
        ("compare --models ResNet50 VGG PlainNet5", {"PlainNet56"}),
        ("study shortcuts --model ResNet3", {"ResNet32", "ResNet34", "ResNet34V2", "ResNet34D"}),
        ("train --trackers wandb ml", {"mlflow"}),
    ],
)
def test_values_of_flags_are_completed(line, expected, script):
    words = line.split(" ")
    typed = f"COMP_WORDS=(keras-resnet {' '.join(map(repr, words))}) COMP_CWORD={len(words)}"
    last = f"{script}\n{typed}; _keras_resnet; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    found = subprocess.run(["bash", "-c", last], check=True, capture_output=True, text=True)
    assert set(found.stdout.split()) == expected and found.stderr == ""


@pytest.fixture(scope="module")
def script():
    return completion_script("bash", VERBS)
