"""Named builders: a general one with some arguments fixed, and defaults of its own for others."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras


def named_builder(
    general: Callable[..., keras.Model],
    name: str,
    summary: str,
    fixed: Collection[str],
    defaults: Mapping[str, Any],
    build_with: Callable[[dict[str, Any]], keras.Model],
) -> Callable[..., keras.Model]:
    """Returns a builder with the signature and the documentation of `general`, less what is fixed.

    Args:
        general: The builder of any network of the kind.
        name: Name of the builder.
        summary: What its docstring says above the arguments.
        fixed: Arguments of `general` that it does not take.
        defaults: Defaults that differ from those of `general`.
        build_with: Makes the model of all the arguments it takes.
    """
    signature = inspect.signature(general)
    signature = signature.replace(
        parameters=[
            parameter.replace(default=defaults.get(key, parameter.default))
            for key, parameter in signature.parameters.items()
            if key not in fixed
        ]
    )

    def build(*args, **kwargs):
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}() {error}") from None
        bound.apply_defaults()
        return build_with(dict(bound.arguments))

    build.__name__ = build.__qualname__ = name
    build.__signature__ = signature
    build.__annotations__ = {"return": keras.Model}
    build.__doc__ = f"{summary}\n\n{_arguments(general.__doc__, fixed)}"
    return build


def _arguments(docstring: str, left_out: Collection[str]) -> str:
    """Returns a docstring from "Args:" on, without some of the arguments."""
    text = docstring[docstring.index("    Args:\n") :]
    for argument in left_out:
        text = re.sub(rf"^ {{8}}{argument}: .*\n(?: {{12}}.*\n)*", "", text, flags=re.MULTILINE)
    return text
