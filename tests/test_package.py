"""The package as installed and documented: light to import, with true documents."""

from __future__ import annotations

import importlib.metadata
import json
import pkgutil
import re
import shlex

import keras
import pytest

import keras_resnet
from keras_resnet.weights import PRETRAINED
from tests.documents import ROOT, blocks, command_lines, documents, joined

# Folders that commands and tools create in a checkout.
OUTPUTS = ("build", "dist", "runs", "site")
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.md")
    if not path.relative_to(ROOT).parts[0].startswith((".", *OUTPUTS))
)
COMMANDED = [name for name in DOCUMENTS if "```bash" in (ROOT / name).read_text(encoding="utf-8")]

# Packages of the extras, and pandas, a dependency of some of them.
HEAVY = {
    "PIL",
    "ai_edge_litert",
    "huggingface_hub",
    "keras_tuner",
    "matplotlib",
    "onnx",
    "pandas",
    "rich",
    "safetensors",
    "simplejpeg",
    "sklearn",
    "tensorboard",
    "tensorflow_datasets",
    "tensorflow_hub",
    "tf2onnx",
    "tf_keras",
}


def test_import_is_light(subprocess_python):
    # Keras imports some of these itself; only what the package adds counts.
    script = """
import json, sys
import keras
with_keras = set(sys.modules)
import keras_resnet
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - with_keras})))
"""
    added = set(json.loads(subprocess_python(script).stdout.splitlines()[-1]))
    assert "keras_resnet" in added
    assert not added & HEAVY


def test_version_is_that_of_the_distribution():
    try:
        installed = importlib.metadata.version("keras-deep-residual")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the checkout is not installed")
    assert installed == keras_resnet.__version__


def test_every_room_is_packaged():
    # `find_packages` skips a directory without __init__.py, so the wheel would lack it.
    modules = (ROOT / "keras_resnet").rglob("*.py")
    bare = {str(path.parent) for path in modules if not (path.parent / "__init__.py").exists()}
    assert bare == set()


@pytest.mark.parametrize("name", DOCUMENTS, ids=str)
def test_relative_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)", text)}
    local = {t for t in targets if t and not t.startswith(("http://", "https://", "mailto:"))}
    assert {t for t in local if not (ROOT / name).parent.joinpath(t).exists()} == set()


@pytest.mark.parametrize("name", COMMANDED, ids=str)
def test_commands_name_existing_files(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    words = [word for block in blocks(text, "bash") for word in shlex.split(block, comments=True)]
    paths = {word for word in words if re.fullmatch(r"(?:[\w.-]+/)+[\w.-]+", word)}
    ours = {path for path in paths if not path.startswith((".venv/", "runs/", "photographs/"))}
    assert {path for path in ours - PRETRAINED.keys() if not (ROOT / path).exists()} == set()


HELP = ROOT / "tests" / "snapshot" / "help"
# Recipes whose flags are those of a verb of another name.
VERBS = {
    **dict.fromkeys(("digits", "cifar10", "imagenet", "publish"), "train"),
    **{name: f"study-{name}" for name in ("deepen", "degradation", "shortcuts", "transfer")},
    "very_deep": "study-very-deep",
}


@pytest.mark.parametrize("name", [name for name in documents() if "```bash" in documents()[name]])
def test_commands_have_the_flags_of_their_verbs(name):
    wrong = []
    for line in command_lines(documents()[name]):
        found = re.search(r"(?:^|[ /])(?:keras-resnet|python recipes/)[ ]?([\w-]+)(.*)", line)
        if found is None:
            continue
        verb, rest = found.groups()
        path = HELP / f"{VERBS.get(verb, verb)}.txt"
        known = re.findall(r"(?<![\w-])--?[a-z][\w-]*", path.read_text("utf-8")) + ["--preset"]
        flags = re.findall(r"(?<=\s)--?[a-z][\w-]*", rest.replace(".py", ""))
        wrong += [f"{verb} {flag}" for flag in flags if flag not in known]
    assert wrong == []


# Flags of the command itself, of recipes, of tests, and of timm; --find-learning-rate is new.
OTHER_FLAGS = {
    *("--print-completion", "--preset", "--finds", "--forms", "--minutes"),
    *("--model-ema", "--opt"),
    *("--plot", "--quick"),  # of `python -m benchmarks`
}


def test_flags_in_the_text_exist():
    help_texts = "".join(path.read_text("utf-8") for path in HELP.iterdir())
    known = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", help_texts)) | OTHER_FLAGS
    text = re.sub(r"^```.*?^```$", "", "\n".join(documents().values()), flags=re.M | re.S)
    named = re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(re.findall(r"`([^`]+)`", text)))
    assert len(set(named)) > 50
    # Of `--flip (or --no-...)` the help has the first alone.
    assert {flag for flag in named if not known & {flag, flag.replace("--no-", "--")}} == set()


NOTEBOOKS = [name for name in documents() if name.startswith("docs/notebooks/")]


def code_of(name):
    return "".join(blocks(documents()[name], "python"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code_of(name), name, "exec"), {})


def test_code_of_the_documents_runs(subprocess_python):
    # Each document by itself, all in one process, since TensorFlow takes seconds to import.
    code = {name: code_of(name) for name in documents() if name not in NOTEBOOKS}
    code = {name: block for name, block in code.items() if block}
    assert len(code) >= 7 and all("import keras_resnet" in block for block in code.values())
    runs = (f"exec(compile({block!r}, {name!r}, 'exec'), {{}})" for name, block in code.items())
    subprocess_python("\n".join(runs), timeout=300)


def test_code_that_downloads_can_be_read():
    for name, text in documents().items():
        for block in blocks(text, "py"):
            compile(block, name, "exec")


@pytest.mark.parametrize("name", ["README.md", "docs/start.md"])
def test_pictures_are_named(name, tmp_path, monkeypatch, capsys):
    # As it stands there, but for the weights and the names, which are downloaded.
    block = next(block for block in blocks(documents()[name], "py") if "photo.jpg" in block)
    keras.utils.save_img(tmp_path / "photo.jpg", keras.ops.ones((300, 400, 3)), scale=False)
    monkeypatch.chdir(tmp_path)
    asked = []

    def load(name):
        asked.append(name)
        return keras_resnet.ResNet18(include_preprocessing=True)

    def decode(scores, top):
        return decode_predictions(scores, top, [f"class {i}" for i in range(1000)])

    decode_predictions = keras_resnet.decode_predictions
    monkeypatch.setattr(keras_resnet, "load_model", load)
    monkeypatch.setattr(keras_resnet, "decode_predictions", decode)
    exec(compile(block, name, "exec"), {})
    assert capsys.readouterr().out.count("'class ") == 3
    assert asked and set(asked) <= PRETRAINED.keys()


def test_weights_that_are_named_exist():
    named = set(re.findall(r"\b(?:timm|keras)/[a-z]\w+(?:\.\w+)?", joined()))
    # Of keras.applications and timm there are addresses of the hub, too.
    on_the_hub = set(re.findall(r"hf(?:://|-hub:)([\w.-]+/[\w.-]+)", joined()))
    assert len(named) > 40 and named - on_the_hub <= PRETRAINED.keys()


def test_names_of_the_package_exist():
    named = set(re.findall(r"(?<![\w/.])keras_resnet(?:\.[A-Za-z]\w*)+", joined()))
    assert len(named) > 30 and {name for name in named if not _exists(name)} == set()


def _exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_error_lines_that_are_explained_exist():
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "keras_resnet").rglob("*.py")
    )
    # Neighboring strings are one; what is in braces differs from case to case.
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    headings = re.findall(r"^## (.*)$", documents()["docs/troubleshooting.md"], re.MULTILINE)
    assert len(headings) >= 15
    for heading in headings[:-1]:
        parts = (re.escape(part) for part in heading.split("..."))
        assert re.search(r"\{?[^\n]*?".join(parts), source), heading
