"""The networks that are compared, and the summaries of their outputs. Needs numpy only."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np

STORED = pathlib.Path(__file__).with_name("torch_outputs.npz")

SUMMARY = ("mean", "std", "maximum")
ELEMENTS = 8


@dataclasses.dataclass(frozen=True)
class Layout:
    """The stages of a network, where its family and depth do not determine them.

    Args:
        repeats: Blocks per stage.
        bottleneck: Whether they are bottlenecks.
        stem: Filters of the first convolution.
        width: Width of the first stage; every other stage doubles it.
        inner: Channels of a bottleneck's 3x3 convolution per unit of width.
        groups: Its groups.
    """

    repeats: tuple[int, ...]
    bottleneck: bool
    stem: int
    width: int
    inner: int = 1
    groups: int = 1


@dataclasses.dataclass(frozen=True)
class Case:
    """One network on one batch of drawn images.

    Args:
        family: "imagenet" or "cifar".
        depth: The number in the network's name.
        shortcut: "A", "B", "C", or None for a plain net.
        version: "v1" or "v1.5": which convolution of a bottleneck has the stride; "v2":
            pre-activation.
        images: (batch, height, width, channels).
        batch: Number of the drawn batch.
        name: Name of its builder, where that is not ResNet or PlainNet and the depth.
        options: Further options of the builder.
        layout: Its stages, where they are not those of `depth`.
        peer: Where it is computed: "" for the implementation here, "torchvision" or "timm" and a
            name there, such as "timm/resnet50d".
    """

    family: str
    depth: int
    shortcut: str | None
    version: str = "v1"
    images: tuple[int, int, int, int] = (2, 64, 64, 3)
    batch: int = 0
    name: str = ""
    options: dict[str, object] = dataclasses.field(default_factory=dict)
    layout: Layout | None = None
    peer: str = ""

    @property
    def builder(self) -> str:
        prefix = "PlainNet" if self.shortcut is None else "ResNet"
        return self.name or f"{prefix}{self.depth}"

    @property
    def classes(self) -> int:
        return 100 if self.family == "imagenet" else 10


def _theirs(peer: str, name: str, depth: int, version: str = "v1.5", **others) -> Case:
    return Case("imagenet", depth, "B", version, name=name, peer=peer, **others)


SMALL, ODD = (2, 32, 32, 3), (2, 65, 47, 3)
INFERENCE = {
    "resnet18_b": Case("imagenet", 18, "B"),
    "resnet34_a": Case("imagenet", 34, "A"),
    "resnet34_b": Case("imagenet", 34, "B"),
    "resnet34_c": Case("imagenet", 34, "C"),
    "plainnet34": Case("imagenet", 34, None),
    "resnet50_v1_a": Case("imagenet", 50, "A"),
    "resnet50_v1_b": Case("imagenet", 50, "B"),
    "resnet50_v1.5_b": Case("imagenet", 50, "B", "v1.5"),
    "resnet101_v1.5_b": Case("imagenet", 101, "B", "v1.5"),
    "resnet152_v1.5_b": Case("imagenet", 152, "B", "v1.5"),
    "resnet18_a_odd": Case("imagenet", 18, "A", images=ODD),
    "resnet50_v1.5_b_odd": Case("imagenet", 50, "B", "v1.5", images=ODD),
    "resnet20_a": Case("cifar", 20, "A", images=SMALL),
    "resnet20_b": Case("cifar", 20, "B", images=SMALL),
    "resnet20_c": Case("cifar", 20, "C", images=SMALL),
    "plainnet20": Case("cifar", 20, None, images=SMALL),
    "resnet20_a_odd": Case("cifar", 20, "A", images=(2, 33, 29, 3)),
    "resnet32_a": Case("cifar", 32, "A", images=SMALL),
    "resnet44_a": Case("cifar", 44, "A", images=SMALL),
    "resnet56_a": Case("cifar", 56, "A", images=SMALL),
    "resnet110_a": Case("cifar", 110, "A", images=SMALL),
    # The wider family, written out here for want of a peer...
    "resnet18v2": Case("imagenet", 18, "B", "v2"),
    "resnet20v2_a": Case("cifar", 20, "A", "v2", images=SMALL),
    "resnet20v2_c_odd": Case("cifar", 20, "C", "v2", images=(2, 33, 29, 3)),
    "resnet164v2": Case(
        *("cifar", 164, "B", "v2", SMALL),
        name="ResNet164V2",
        layout=Layout((18, 18, 18), bottleneck=True, stem=16, width=16),
    ),
    "wideresnet16_8": Case(
        *("cifar", 16, "B", "v2", SMALL),
        name="WideResNet16_8",
        layout=Layout((2, 2, 2), bottleneck=False, stem=16, width=128),
    ),
    "resnext29_8x64d": Case(
        *("cifar", 29, "B", "v1.5", SMALL),
        name="ResNeXt29_8x64d",
        layout=Layout((3, 3, 3), bottleneck=True, stem=64, width=64, inner=8, groups=8),
    ),
    # ...and by theirs.
    "resnet50v2": _theirs("timm/resnetv2_50", "ResNet50V2", 50, "v2"),
    "resnet101v2_odd": _theirs("timm/resnetv2_101", "ResNet101V2", 101, "v2", images=ODD),
    "resnet18d": _theirs("timm/resnet18d", "ResNet18D", 18),
    "resnet50d_odd": _theirs("timm/resnet50d", "ResNet50D", 50, images=ODD),
    "seresnet50_v1.5": _theirs("timm/seresnet50", "SEResNet50", 50),
    "resnext50_32x4d": _theirs("torchvision/resnext50_32x4d", "ResNeXt50_32x4d", 50),
    "resnext101_32x8d": _theirs("torchvision/resnext101_32x8d", "ResNeXt101_32x8d", 101),
    "wideresnet50_2": _theirs("torchvision/wide_resnet50_2", "WideResNet50_2", 50),
    "resnet26": _theirs("timm/resnet26", "ResNet26", 26),
    "seresnext50_32x4d": _theirs("timm/seresnext50_32x4d", "SEResNeXt50_32x4d", 50),
    "seresnet18_rounded": _theirs(
        *("timm/seresnet18", "SEResNet18", 18, "v1"), options={"se_divisor": 8}
    ),
    "seresnet50_ceil_odd": _theirs(
        *("timm/legacy_seresnet50", "SEResNet50", 50, "v1"),
        images=ODD,
        options={"stem_pool": "ceil"},
    ),
    "resnet18v2_first_odd": _theirs(
        *("timm/resnetv2_18", "ResNet18V2", 18, "v2"), images=ODD, options={"stem_pool": "first"}
    ),
    "resnet18_silu": _theirs("timm/resnet18:silu", "", 18, "v1", options={"activation": "silu"}),
    "resnet18_group": _theirs(
        "timm/resnet18:group", "", 18, "v1", options={"normalization": "group"}
    ),
}

# One step in training mode: loss, gradients and moving statistics. A gradient jumps where the input
# of a ReLU passes zero, and among half a million inputs some come so near that float32 rounds them
# to the other side: on most batches it misses the float64 gradient by up to 1e-3 in any framework.
# So the batch is the first one on which, in float64 and for both nets, none comes nearer than this.
MARGIN = 5e-6
TRAINING = {
    "train_resnet20_a": Case("cifar", 20, "A", images=(8, 16, 16, 3), batch=15),
    "train_resnet20_b": Case("cifar", 20, "B", images=(8, 16, 16, 3), batch=15),
}
MOMENTUM = 0.9
GRADIENTS = {
    "train_resnet20_a": (
        "conv1_conv/kernel",
        "conv1_bn/gamma",
        "conv3_block1_1_conv/kernel",
        "conv4_block3_2_bn/beta",
        "predictions/kernel",
        "predictions/bias",
    ),
    "train_resnet20_b": (
        "conv1_conv/kernel",
        "conv3_block1_0_conv/kernel",
        "conv3_block1_0_bn/gamma",
        "conv3_block1_1_conv/kernel",
        "predictions/kernel",
    ),
}


def summarize(output: np.ndarray) -> np.ndarray:
    """Returns mean, standard deviation, largest absolute value and some elements of a map."""
    flat = np.ravel(output)
    chosen = np.linspace(0, flat.size - 1, ELEMENTS).astype("int64")
    return np.concatenate([[flat.mean(), flat.std(), np.abs(flat).max()], flat[chosen]])


def load() -> tuple[dict[str, np.ndarray], dict]:
    """Reads the stored outputs: the arrays by name, and their description."""
    with np.load(STORED, allow_pickle=False) as stored:
        arrays = dict(stored)
    return arrays, json.loads(str(arrays.pop("about")))
