"""The small networks that are built on both backends; imports no backend."""

OPTIONS = {
    "blocks": (3,),
    "widths": (4,),
    "stem": "cifar",
    "input_shape": (9, 8, 3),
    "classes": 5,
    "classifier_activation": None,
}
CASES = {
    "basic": {
        "block": "basic",
        "blocks": (1, 1),
        "widths": (4, 6),
        "stem": "imagenet",
        "shortcut": "A",
    },
    "stacked": {"block": "basic", "shortcut": "C", "stack_blocks": True},
    "recomputed": {"block": "bottleneck", "shortcut": "B", "recompute": True},
}
