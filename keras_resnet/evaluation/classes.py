"""Outputs of models matched to the classes of a data set by name."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence

from keras_resnet.utils.escapes import visible

logger = logging.getLogger(__name__)

# Names that an error lists at most.
_LISTED = 3


def class_orders(
    dataset: str,
    classes: Sequence[str],
    models: Sequence[str],
    class_names: Sequence[Sequence[str] | None],
) -> list[list[int] | None]:
    """Returns which output of each model belongs to each class of a data set.

    Numbers count as names only where both sides have the same ones. Without names on one side,
    outputs belong to the classes of their number, which is logged; the names that other models
    have are then matched to those of the first.

    Args:
        dataset: Name of the data set, for messages.
        classes: Names of its classes.
        models: Names of the models, for messages.
        class_names: For each model the names of its classes, or None where not known.

    Returns:
        For each model the positions of its outputs in the order of the classes, None where that is
        their own order.

    Raises:
        ValueError: If a model has other classes.
    """
    # File systems have a letter with an accent as one character, or as two.
    classes, *known = (
        [unicodedata.normalize("NFC", name) for name in names or ()]
        for names in (classes, *class_names)
    )
    sides = [(dataset, classes), *zip(models, known, strict=True)]
    whose, wanted = next((side for side in sides if _are_words(side[1])), sides[0])
    orders: list[list[int] | None] = []
    by_number = [] if wanted is classes else list(models)
    for model, names in sides[1:]:
        order = None
        if sorted(names) == sorted(wanted) and len({*wanted}) == len(wanted):
            order = [names.index(name) for name in wanted]
        elif not _are_words(names) or not _are_words(wanted):
            by_number.append(model)
        elif names != wanted:
            raise ValueError(
                f"`models` must have the classes of {visible(whose)}, each once. Received: "
                f"{visible(model)} with {_listed(names, wanted)} and without "
                f"{_listed(wanted, names)}"
            )
        orders.append(None if order is None or order == sorted(order) else order)
    if by_number:
        logger.info(
            f"Without names on both sides, outputs of {' and '.join(dict.fromkeys(by_number))} "
            f"are matched to the classes of {dataset} by number."
        )
    return orders


def _are_words(names: Sequence[str]) -> bool:
    return not all(name.isdecimal() for name in names)


def _listed(names: Sequence[str], others: Sequence[str]) -> str:
    """Returns some of the names that are not among the others, as text."""
    own = [name for name in names if name not in others]
    return ", ".join([*map(repr, own[:_LISTED]), *["..."] * (len(own) > _LISTED)]) or "no other"
