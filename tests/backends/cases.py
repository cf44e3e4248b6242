"""The small networks that are built on both backends; imports no backend."""

OPTIONS = {
    "blocks": (3,),
    "widths": (4,),
    "stem": "cifar",
    "input_shape": (9, 8, 3),
    "classes": 5,
    "classifier_activation": "linear",
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
    "v2": {
        "blocks": (2, 1),
        "widths": (4, 6),
        "version": "v2",
        "squeeze_excitation": 2,
        "stack_blocks": True,
    },
    "v2-keras": {"blocks": (2, 2), "widths": (4, 6), "version": "v2-keras", "conv_bias": True},
    "D": {
        "blocks": (1, 1),
        "widths": (4, 8),
        "stem": "imagenet",
        "version": "v1.5",
        "deep_stem": True,
        "shortcut_pool": True,
        "groups": 2,
        "width_per_group": 32,
        "normalization": "group",
        "activation": "silu",
    },
    "dense": {"builder": "DenseNet", "blocks": (2, 1), "growth_rate": 3, "widths": None},
    "recomputed": {"block": "bottleneck", "shortcut": "B", "recompute": True},
}
# JAX takes long to compile: a step of training longest, so not all of these are trained, and some
# are built with channels first only.
TRAINED = ("basic", "recomputed")
CHANNELS_FIRST = ("basic", "D", "dense")


def build(package, name, **options):
    """Builds one of the cases with `package`, which is `keras_resnet`."""
    options = {**OPTIONS, **CASES[name], **options}
    builder = getattr(package, options.pop("builder", "ResNet"))
    return builder(**{key: value for key, value in options.items() if value is not None})
