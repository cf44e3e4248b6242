"""The table: one line for every named network.

Nothing here imports Keras; the rest of the package reads the networks' shapes from these lines.
"""

from __future__ import annotations

import dataclasses
import numbers

from keras_resnet import checks

# Output channels of a block per unit of width, and weighted layers on its main path.
EXPANSION = {"basic": 1, "bottleneck": 4}
LAYERS_PER_BLOCK = {"basic": 2, "bottleneck": 3}


@dataclasses.dataclass(frozen=True)
class Stem:
    """What stands before the first stage: one convolution, and a max pool or none.

    Attributes:
        kernel_size: Odd side of the convolution's kernel.
        strides: Its stride.
        pool: Whether a 3x3 max pool of stride 2 follows.
    """

    kernel_size: int = 7
    strides: int = 2
    pool: bool = True

    def __post_init__(self):
        for name in ("kernel_size", "strides"):
            object.__setattr__(self, name, checks.integer(name, getattr(self, name)))
        checks.boolean("pool", self.pool)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                "`kernel_size` of a stem must be an odd whole number. "
                f"Received: kernel_size={self.kernel_size}"
            )

    @property
    def reduction(self) -> int:
        """How many input pixels one pixel of the stem's output stands for, along a side."""
        return self.strides * (2 if self.pool else 1)

    def smallest_image(self, stages: int) -> int:
        """Side in pixels that leaves one pixel on the last of so many stages' maps."""
        return self.reduction * 2 ** (stages - 1)


@dataclasses.dataclass(frozen=True)
class Family:
    """What the networks made for one data set have in common."""

    stem: Stem
    widths: tuple[int, ...]
    image_size: int
    classes: int
    shortcut: str


FAMILIES = {
    "imagenet": Family(
        Stem(7, 2, pool=True), (64, 128, 256, 512), image_size=224, classes=1000, shortcut="B"
    ),
    "cifar": Family(Stem(3, 1, pool=False), (16, 32, 64), image_size=32, classes=10, shortcut="A"),
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One named network.

    Attributes:
        name: Public name of its builder.
        family: Key of `FAMILIES`: stem, widths, default image size and classes.
        depth: Weighted layers on the main path, the number in the name.
        block: "basic" or "bottleneck".
        repeats: Blocks per stage.
        shortcut: "A", "B", "C", or None for a plain net.
        version: "v1" or "v1.5" (differ for bottlenecks only).
        source: Where it is described.
    """

    name: str
    family: str
    depth: int
    block: str
    repeats: tuple[int, ...]
    shortcut: str | None
    version: str = "v1"
    source: str = "arXiv 1512.03385"

    @property
    def widths(self) -> tuple[int, ...]:
        return FAMILIES[self.family].widths

    @property
    def stem(self) -> Stem:
        return FAMILIES[self.family].stem

    def variant(self, shortcut: str | None, version: str) -> Architecture:
        """Returns this network with another shortcut or version, and the name that tells them.

        ResNet50 with version "v1.5" is ResNet50_v1.5, ResNet20 with projections ResNet20_B, and
        without shortcuts PlainNet20. Basic blocks are the same in both versions.
        """
        if (shortcut, version) == (self.shortcut, self.version):
            return self
        kind = "PlainNet" if shortcut is None else "ResNet"
        marks = [kind + self.name.removeprefix("PlainNet").removeprefix("ResNet")]
        if shortcut not in (None, FAMILIES[self.family].shortcut):
            marks.append(str(shortcut))
        if version != self.version and self.block != "basic":
            marks.append(str(version))
        return dataclasses.replace(self, name="_".join(marks), shortcut=shortcut, version=version)


def cifar_repeats(depth: int) -> tuple[int, int, int]:
    """Returns the blocks per stage of a CIFAR network of `depth` = 6n+2 layers (section 4.2).

    Raises:
        ValueError: If `depth` is not 6n+2 for a whole n >= 1.
    """
    whole = isinstance(depth, numbers.Integral) and not isinstance(depth, bool)
    if not whole or depth < 8 or (depth - 2) % 6:
        raise ValueError(
            "`depth` of a CIFAR network must be 6n+2 with n >= 1: 8, 14, 20, 26, 32, ... "
            f"Received: depth={depth!r}"
        )
    n = int(depth - 2) // 6
    return (n, n, n)


def _imagenet(name, depth, block, repeats, shortcut="B"):
    return Architecture(name, "imagenet", depth, block, repeats, shortcut)


def _cifar(name, depth, shortcut="A"):
    return Architecture(name, "cifar", depth, "basic", cifar_repeats(depth), shortcut)


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        # ImageNet, Table 1 and section 3.3.
        _imagenet("ResNet18", 18, "basic", (2, 2, 2, 2)),
        _imagenet("ResNet34", 34, "basic", (3, 4, 6, 3)),
        _imagenet("ResNet50", 50, "bottleneck", (3, 4, 6, 3)),
        _imagenet("ResNet101", 101, "bottleneck", (3, 4, 23, 3)),
        _imagenet("ResNet152", 152, "bottleneck", (3, 8, 36, 3)),
        _imagenet("PlainNet18", 18, "basic", (2, 2, 2, 2), shortcut=None),
        _imagenet("PlainNet34", 34, "basic", (3, 4, 6, 3), shortcut=None),
        # CIFAR-10, section 4.2.
        _cifar("ResNet20", 20),
        _cifar("ResNet32", 32),
        _cifar("ResNet44", 44),
        _cifar("ResNet56", 56),
        _cifar("ResNet110", 110),
        _cifar("ResNet1202", 1202),
        _cifar("PlainNet20", 20, shortcut=None),
        _cifar("PlainNet32", 32, shortcut=None),
        _cifar("PlainNet44", 44, shortcut=None),
        _cifar("PlainNet56", 56, shortcut=None),
        _cifar("PlainNet110", 110, shortcut=None),
    )
}


def cifar_architecture(depth: int, shortcut: str | None = "A") -> Architecture:
    """Returns the CIFAR network of any depth 6n+2, named as its line of the table would be."""
    name = f"{'PlainNet' if shortcut is None else 'ResNet'}{depth}"
    return _cifar(name, depth, shortcut)


def find_architecture(name: str) -> Architecture:
    """Returns the network of that name in the table, whatever the case of its letters.

    Raises:
        ValueError: If there is none.
    """
    for known, architecture in ARCHITECTURES.items():
        if known.lower() == str(name).lower():
            return architecture
    raise ValueError(f"`model` must be one of {', '.join(ARCHITECTURES)}. Received: model={name!r}")
