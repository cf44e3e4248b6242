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
    "basic": {"block": "basic", "blocks": (1, 1), "widths": (4, 6), "shortcut": "A"},
    "bottleneck": {"blocks": (1, 2), "widths": (2, 3), "version": "v1.5", "stem": "imagenet"},
    "stacked": {"block": "basic", "shortcut": "C", "stack_blocks": True},
    "recomputed": {"block": "bottleneck", "shortcut": None, "recompute": True},
}
