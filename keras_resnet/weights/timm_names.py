"""Networks by the names that timm gives them."""

from __future__ import annotations

import re
from typing import Any

from keras_resnet.architectures import DENSE_NETWORKS, FAMILIES, IMAGENET_BLOCKS

# Depths that the table has no entry of.
_BLOCKS = IMAGENET_BLOCKS | {
    200: ("bottleneck", (3, 24, 36, 3)),
    269: ("bottleneck", (3, 30, 48, 8)),
}
# Suffixes: the stem of three convolutions, alone or with pooled projections.
_STEMS: dict[str, dict[str, Any]] = {
    "": {},
    "c": {"deep_stem": True},
    "d": {"deep_stem": True, "shortcut_pool": True},
    "s": {"deep_stem": True, "stem_filters": 128},
}
_NAME = re.compile(
    r"(?:tv_|gluon_)?(?P<legacy>legacy_)?(?P<se>se)?(?P<wide>wide_)?res(?P<next>ne[xX]t|net)"
    r"(?P<depth>\d+)(?P<stem>[cds]?)(?:_(?P<groups>\d+)x(?P<width>\d+)d|_(?P<factor>\d+))?"
)
_V2_NAME = re.compile(r"resnetv2_(?P<depth>18|34|50|101|152)(?P<stem>d?)")


def timm_network(name: str) -> tuple[str, dict[str, Any]]:
    """Returns the general builder, by name, and its arguments for a model of timm's.

    Raises:
        ValueError: If the builders do not make the model.
    """
    dense = {entry.name.lower(): entry for entry in DENSE_NETWORKS.values() if entry.depth != 264}
    if name in dense:  # timm's 264 has another growth rate.
        entry = dense[name]
        arguments = {"blocks": entry.repeats, "growth_rate": entry.growth_rate}
        return "DenseNet", {**arguments, "stem": entry.family}
    options: dict[str, Any] = {"version": "v1.5"}
    if found := _V2_NAME.fullmatch(name):
        options = {"version": "v2", "stem_pool": "first"}
    elif found := _NAME.fullmatch(name):
        grouped, wide = found["next"] != "net", found["wide"] is not None
        legacy, basic = found["legacy"] is not None, int(found["depth"]) in (18, 34)
        if (
            grouped != (found["groups"] is not None)
            or wide != (found["factor"] is not None)
            # Its basic blocks have an activation in front of squeeze-and-excitation.
            or (legacy and (basic or not found["se"]))
        ):
            found = None
        elif legacy:
            # The stride is on the first convolution unless there are groups.
            options = {"version": "v1.5" if grouped else "v1", "stem_pool": "ceil"}
    if found is None or int(found["depth"]) not in _BLOCKS:
        raise ValueError(f"there is no {name!r} here")
    parts: dict[str, Any] = {"groups": None, "factor": None, "se": None} | found.groupdict()
    if parts["groups"]:
        options |= {"groups": int(parts["groups"]), "width_per_group": int(parts["width"])}
    if parts["factor"]:
        options["width_per_group"] = 64 * int(parts["factor"])
    block, repeats = _BLOCKS[int(parts["depth"])]
    if parts["se"]:
        # Where the channels inside are no multiples of 8 already.
        options |= {"squeeze_excitation": 16, "se_divisor": 8 if block == "basic" else 1}
    family = FAMILIES["imagenet"]
    return "ResNet", {
        "blocks": repeats,
        "block": block,
        "widths": family.widths,
        "stem": "imagenet",
        "stem_filters": 64,
        "shortcut": family.shortcut,
        **options,
        **_STEMS[parts["stem"]],
    }
