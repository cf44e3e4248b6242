"""What the snapshots pin: the public API, the layers of networks, and the help of the command.

Only public paths are imported, so that modules can move.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import pytest

import keras_resnet
from keras_resnet.cli.study import STUDIES
from keras_resnet_command import VERBS

FOLDER = Path(__file__).parent
PUBLIC_API = FOLDER / "public_api.json"
HELP = FOLDER / "help"
LAYER_NAMES = FOLDER / "layer_names.json"

PACKAGES = (
    "keras_resnet",
    "keras_resnet.analysis",
    "keras_resnet.analysis.plots",
    "keras_resnet.applications",
    "keras_resnet.applications.densenet",
    "keras_resnet.applications.resnet",
    "keras_resnet.applications.resnet50",
    "keras_resnet.applications.resnet_v2",
    "keras_resnet.data",
    "keras_resnet.evaluation",
    "keras_resnet.experiment",
    "keras_resnet.export",
    "keras_resnet.training",
    "keras_resnet.weights",
)

# Of networks with more layers, the file holds a digest instead of the list.
LONGEST_LIST = 200


def _network(name: str, **options) -> Callable[[], keras.Model]:
    return lambda: keras_resnet.build(
        name, **{"input_shape": (32, 32, 3), "classes": 10, **options}
    )


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    **{
        name: _network(name)
        for name in (
            *("ResNet18", "ResNet50", "ResNet50V2", "ResNet50D", "SEResNet18", "PlainNet18"),
            *("ResNeXt29_8x64d", "WideResNet16_8", "DenseNet121", "DenseNetBC100_12"),
        )
    },
    "ResNet50 v1.5": _network("ResNet50", version="v1.5"),
    **{f"ResNet20 shortcut {kind}": _network("ResNet20", shortcut=kind) for kind in "ABC"},
    "ResNet20 options": _network(
        "ResNet20", normalization="group", activation="silu", dropout=0.1, stochastic_depth=0.2
    ),
    "ResNet20 stacked": _network("ResNet20", stack_blocks=True),
    "ResNet20 without top": _network("ResNet20", include_top=False, pooling="avg", classes=None),
    "ResNet20 with preprocessing": _network("ResNet20", include_preprocessing=True),
    "ResNet18 backbone": lambda: keras_resnet.backbone("ResNet18"),
}


def public_api() -> dict[str, dict]:
    """Describes every public name, such as "keras_resnet.ResNet50"."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in sorted(module.__all__):
            found[f"{package}.{name}"] = describe(getattr(module, name))
    return found


def describe(value: object) -> dict:
    """Returns the kind of a public object and, where it can be called, its parameters.

    A class that takes `__init__` from outside this package has None: that one is not ours to pin.
    """
    if inspect.isclass(value):
        ours = getattr(value.__init__, "__module__", "").partition(".")[0] == "keras_resnet"
        return {"kind": "class", "signature": parameters(value.__init__)[1:] if ours else None}
    if callable(value):
        return {"kind": "function", "signature": parameters(value)}
    return {"kind": "other"}


def parameters(function: Callable) -> list[list]:
    """Returns [name, kind, default] of every parameter; the default as text, None for none."""
    return [
        [p.name, p.kind.name.lower(), None if p.default is p.empty else _stable(p.default)]
        for p in inspect.signature(function).parameters.values()
    ]


def _stable(default: object) -> str:
    """Returns the default's `repr`, or the name of its type where that has an address in it."""
    if default is None or isinstance(default, (bool, int, float, str, bytes)):
        return repr(default)
    if type(default) is tuple:
        return f"({', '.join(map(_stable, default))})"
    # A data class's own mark, whose type is private to Python.
    return "<factory>" if repr(default) == "<factory>" else f"<{type(default).__name__}>"


def network(name: str) -> dict:
    """Builds one of `NETWORKS` and returns its name and its layers, as the file holds them."""
    keras.utils.clear_session(free_memory=False)
    model = NETWORKS[name]()
    layers = [_layer(layer) for layer in model.layers]
    if len(layers) <= LONGEST_LIST:
        return {"name": model.name, "layers": layers}
    digest = hashlib.sha256("\n".join(layers).encode()).hexdigest()
    return {"name": model.name, "count": len(layers), "sha256": digest}


def _layer(layer: keras.Layer) -> str:
    """Returns "name class shape shape", the shapes those of its weights, such as 3x3x16x16."""
    kind, name = type(layer).__name__, layer.name
    if kind == "InputLayer":
        name = re.sub(r"_\d+$", "", name)  # Keras numbers them.
    shapes = ("x".join(map(str, weight.shape)) or "scalar" for weight in layer.weights)
    return " ".join([name, kind, *shapes])


def write(path: Path, entries: Mapping[str, object]) -> None:
    """Writes JSON with one line an entry, so that a diff shows what changed."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read(path: Path) -> dict:
    """Reads what `write` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def helps() -> dict[str, str]:
    """Returns the help of every verb, and of every study by its name, as tyro makes it."""
    texts = {verb: _help_of(f"keras_resnet.cli.{verb.replace('-', '_')}", verb) for verb in VERBS}
    for name in STUDIES:
        texts[f"study-{name}"] = _help_of("keras_resnet.cli.study", "study", name)
    return texts


def _help_of(module: str, verb: str, *words: str) -> str:
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setenv("COLUMNS", "100")
        patch.setenv("NO_COLOR", "1")
        with contextlib.suppress(SystemExit):
            importlib.import_module(module).main([*words, "--help"], prog=f"keras-resnet {verb}")
    return out.getvalue()
