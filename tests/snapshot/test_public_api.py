"""The public names and their parameters are those of `public_api.json`."""

from __future__ import annotations

import difflib
import json

from tests.snapshot import describe


def differences(found: dict, expected: dict) -> list[str]:
    """Says of every name whether it is missing, new, or what has changed about it."""
    said = [f"missing: {name}" for name in expected.keys() - found.keys()]
    said += [f"new: {name}" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        if found[name] != expected[name]:
            lines = difflib.ndiff(_lines(expected[name]), _lines(found[name]))
            said.append("\n  ".join([f"changed: {name}", *(x for x in lines if x[0] in "+-")]))
    return sorted(said)


def _lines(entry: dict) -> list[str]:
    return [entry["kind"], *map(json.dumps, entry.get("signature") or [])]


def test_public_api_is_as_written():
    found = json.loads(json.dumps(describe.public_api()))
    said = differences(found, describe.read(describe.PUBLIC_API))
    assert not said, "the public API differs from public_api.json:\n" + "\n".join(said)


def test_differences_are_named():
    old = {"a": {"kind": "other"}, "b": {"kind": "function", "signature": [["x", "any", None]]}}
    new = {"c": {"kind": "other"}, "b": {"kind": "function", "signature": [["x", "any", "1"]]}}
    changed = 'changed: b\n  - ["x", "any", null]\n  + ["x", "any", "1"]'
    assert differences(new, old) == [changed, "missing: a", "new: c"]
    assert differences(old, old) == []
