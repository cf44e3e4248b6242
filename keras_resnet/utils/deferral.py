"""Names of packages that are imported later in a process of the `keras-resnet` command.

TensorFlow takes seconds to import, and a wrong flag can be told without it. Everywhere else
`import keras_resnet` imports all at once, so that Keras finds its layers in files by their names.
"""

from __future__ import annotations

import sys

# `python -m keras_resnet` imports the package in front of the command, which handles signals.
if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] in ("keras_resnet", "-mkeras_resnet"):
    import keras_resnet_command  # noqa: F401

import importlib
import importlib.util
import logging
from collections.abc import Callable
from typing import Any

from keras_resnet.utils.terminal import errors_alone, notices_left_out

_deferring = "keras_resnet_command" in sys.modules
_packages: list[str] = []
_waiting: list[Callable[[], object]] = []


def deferred(package: str) -> bool:
    """Returns whether the caller, the `__init__` of a package, is to import its names later.

    The first name that is asked for imports those of all packages, by executing each `__init__`
    once more. Modules of a package are attributes of it, imported or not yet.
    """
    module = sys.modules[package]

    def find(name: str) -> Any:
        special = name.startswith("__") or not name.isidentifier()
        spec = None if special else importlib.util.find_spec(f"{package}.{name}")
        if not special and not (spec and spec.submodule_search_locations):
            _import_deferred(package)
        if name not in vars(module):
            if spec is None:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            return importlib.import_module(spec.name)
        return vars(module)[name]

    vars(module)["__getattr__"] = find
    if _deferring:
        _packages.append(package)
    return _deferring


def when_complete(call: Callable[[], object]) -> None:
    """Calls a function once all is imported that is deferred, or at once where nothing is."""
    if _packages:
        _waiting.append(call)
    else:
        call()


def _import_deferred(package: str) -> None:
    """Imports the names of all packages first, and of this one where that is under way."""
    global _deferring
    if not _deferring:
        _import(package)
        return
    _deferring = False
    try:
        _import_all()
    except BaseException:
        _deferring = True  # What is asked for next tells the cause again.
        raise
    while _waiting:
        _waiting.pop()()


def _import_all() -> None:
    with notices_left_out():
        for name in list(_packages):
            _import(name)
        if tensorflow := sys.modules.get("tensorflow"):
            tensorflow.config.list_physical_devices()  # It says so if there is no GPU.
    if errors_alone():  # of Python code, too; the converter for LiteRT sets levels anew
        for name in ("absl", "tensorflow"):
            logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.ERROR)


def _import(package: str) -> None:
    if package in _packages:
        _packages.remove(package)
        try:
            importlib.reload(sys.modules[package])
        except BaseException:
            _packages.append(package)
            raise
