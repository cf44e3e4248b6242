"""Documents in Markdown of which a part, between two comments, is made."""

from __future__ import annotations


def around(
    document: str, start: str, end: str, *, argument: str, given: str | None = None
) -> tuple[str, str]:
    """Returns what stands up to the comment `start`, and from the comment `end` on, both included.

    Raises:
        ValueError: If the document, the value `given` of `argument`, does not have these two.
    """
    before, found, rest = document.partition(start)
    _, last, after = rest.partition(end)
    if not found or not last:
        given = f"a document of {len(document)} characters without them" if given is None else given
        raise ValueError(
            f"`{argument}` must be a document with {start!r} and after it {end!r}. "
            f"Received: {given}"
        )
    return before + found, last + after
