"""The table: one entry for every named network, and one for every kind of block.

The identity of a network, which is to say its blocks and options and the name that tells them, is
decided here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from keras_resnet.utils import checks

# Where the networks are described.
DEEP_RESIDUAL_LEARNING = "arXiv 1512.03385"
IDENTITY_MAPPINGS = "arXiv 1603.05027"
WIDE_RESIDUAL_NETWORKS = "arXiv 1605.07146"
DENSELY_CONNECTED_NETWORKS = "arXiv 1608.06993"
AGGREGATED_TRANSFORMATIONS = "arXiv 1611.05431"
SQUEEZE_AND_EXCITATION = "arXiv 1709.01507"
BAG_OF_TRICKS = "arXiv 1812.01187"


@dataclasses.dataclass(frozen=True)
class Block:
    """One kind of residual block: the convolutions of its branch.

    Attributes:
        kernel_sizes: Sides of their kernels, in order; each is a weighted layer.
        expansion: Output channels per unit of width; the last convolution makes them.
        grouped: Whether its inner 3x3 convolution can have groups and a width of its own.
    """

    kernel_sizes: tuple[int, ...]
    expansion: int
    grouped: bool

    def __post_init__(self):
        if any(size % 2 == 0 for size in self.kernel_sizes):
            raise ValueError(
                "`kernel_sizes` of a block must be odd, to be padded alike on all sides. "
                f"Received: kernel_sizes={self.kernel_sizes}"
            )

    @property
    def weighted_layers(self) -> int:
        return len(self.kernel_sizes)

    def strided(self, version: str) -> int:
        """Returns the index of the strided convolution: the first, or the first above 1x1."""
        larger = (i for i, size in enumerate(self.kernel_sizes) if size > 1)
        return 0 if version == "v1" else next(larger, 0)


BLOCKS = {
    "basic": Block((3, 3), expansion=1, grouped=False),
    "bottleneck": Block((1, 3, 1), expansion=4, grouped=True),
}
VERSIONS = ("v1", "v1.5", "v2", "v2-keras")
# With normalization and activation in front of the convolutions.
PREACTIVATED = ("v2", "v2-keras")
SHORTCUTS = ("A", "B", "C", None)
STEM_POOLS = ("padded", "ceil", "first")
NORMALIZATIONS = ("batch", "group")


@dataclasses.dataclass(frozen=True)
class Stem:
    """Layers in front of the first stage: one convolution or three, and a max pool or none.

    Attributes:
        kernel_size: Odd side of the convolutions' kernels.
        strides: Stride of the first.
        pool: Whether a 3x3 max pool of stride 2 follows.
        deep: Whether there are three convolutions, of half, half and all of the filters.
    """

    kernel_size: int = 7
    strides: int = 2
    pool: bool = True
    deep: bool = False

    def __post_init__(self):
        for name in ("kernel_size", "strides"):
            object.__setattr__(self, name, checks.integer(name, getattr(self, name)))
        checks.boolean("pool", self.pool)
        checks.boolean("deep", self.deep)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                "`kernel_size` of a stem must be an odd whole number. "
                f"Received: kernel_size={self.kernel_size}"
            )

    @property
    def reduction(self) -> int:
        """Stride of the stem's output: input pixels per output pixel along a side."""
        return self.strides * (2 if self.pool else 1)

    def smallest_image(self, stages: int) -> int:
        """Side in pixels that leaves one pixel on the last of so many stages' maps."""
        return self.reduction * 2 ** (stages - 1)

    def deepened(self) -> Stem:
        """Returns the stem with three 3x3 convolutions in place of its one."""
        return dataclasses.replace(self, kernel_size=3, deep=True)


@dataclasses.dataclass(frozen=True)
class Family:
    """Defaults of the networks for one data set."""

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


def family_and_stem(stem: str | Stem) -> tuple[Family, Stem]:
    """Returns the family with the defaults of a network, "imagenet" for custom stems, and the stem.

    Raises:
        ValueError: If `stem` is neither a key of `FAMILIES` nor a `Stem`.
    """
    if isinstance(stem, Stem):
        return FAMILIES["imagenet"], stem
    family = FAMILIES[checks.one_of("stem", stem, tuple(FAMILIES))]
    return family, family.stem


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One named network.

    From `shortcut` to `normalization` the attributes are options of `ResNet`, which can make a
    variant with others.

    Attributes:
        name: Public name of its builder, with suffixes for options that are not the builder's own.
        family: Key of `FAMILIES`: stem, default image size and classes.
        depth: Weighted layers on the main path, the number in the name.
        block: Key of `BLOCKS`.
        repeats: Blocks per stage.
        widths: Width of each stage.
        stem_filters: Filters of the stem.
        custom_stem: Stem in place of the family's.
        source: Where it is described.
    """

    name: str
    family: str
    depth: int
    block: str
    repeats: tuple[int, ...]
    widths: tuple[int, ...]
    stem_filters: int
    shortcut: str | None
    version: str = "v1"
    groups: int = 1
    width_per_group: int = 64
    squeeze_excitation: int | None = None
    se_divisor: int = 1
    deep_stem: bool = False
    stem_pool: str = "padded"
    shortcut_pool: bool = False
    activation: str | Callable = "relu"
    normalization: str = "batch"
    custom_stem: Stem | None = None
    source: str = DEEP_RESIDUAL_LEARNING

    @property
    def stem(self) -> Stem:
        stem = self.custom_stem or FAMILIES[self.family].stem
        return stem.deepened() if self.deep_stem else stem

    @property
    def plain(self) -> bool:
        """Returns whether its blocks have no shortcuts."""
        return self.shortcut is None

    @property
    def options(self) -> dict[str, Any]:
        """Options of its builder that the entry decides."""
        return {name: getattr(self, name) for name in OPTIONS}

    def variant(self, shortcut: str | None, version: str, **options) -> Architecture:
        """Returns this network with other options, and the name that tells them.

        ResNet50 with version "v1.5" is ResNet50_v1.5, ResNet20 with projections ResNet20_B, and
        without shortcuts PlainNet20. What has an entry of its own has that name: ResNet50
        with version "v2" is ResNet50V2. Basic blocks are the same in versions "v1" and "v1.5".
        Others of `OPTIONS` are the network's own where not given.
        """
        return dataclasses.replace(self, shortcut=shortcut, version=version, **options).named()

    def with_repeats(self, repeats: tuple[int, ...]) -> Architecture:
        """Returns this network with other numbers of blocks, and the name that tells them."""
        layers = BLOCKS[self.block].weighted_layers
        depth = self.depth + layers * (sum(repeats) - sum(self.repeats))
        other = dataclasses.replace(self, name=f"{self.name}_deeper", repeats=repeats, depth=depth)
        return other.named()

    def named(self) -> Architecture:
        """Returns this network under the name of its entry of the table, with suffixes for options.

        The entry is the one that has the same blocks and differs in the fewest options; networks
        that no entry has the blocks of keep the name that they have.
        """
        network = dataclasses.replace(self, activation=_kept_by_name(self.activation))
        entries = [entry for entry in RESIDUAL_NETWORKS.values() if network._extends(entry)]
        entries = entries or [entry for entry in network._any_depth() if network._extends(entry)]
        if not entries:
            return network
        alike = [entry for entry in entries if entry.plain == self.plain]
        entry = min(alike or entries, key=network._distance)
        if network.options == entry.options:
            return entry
        kind = "PlainNet" if self.plain else "ResNet"
        name = re.sub("(Plain|Res)Net", kind, entry.name)
        # ResNeXt has no such word in it.
        plain = ["plain"] * (self.plain and kind not in name)
        name = "_".join([name, *plain, *network._suffixes(entry)])
        return dataclasses.replace(network, name=name, depth=entry.depth, source=entry.source)

    def _any_depth(self) -> Iterator[Architecture]:
        """Yields the CIFAR networks of any depth and width that may have these blocks."""
        if self.family == "cifar" and len(set(self.repeats)) == 1 and len(self.repeats) == 3:
            layers, width = BLOCKS[self.block].weighted_layers, self.widths[0] / 16
            depth = 3 * layers * self.repeats[0] + 2
            kind = "A" if self.shortcut else None
            yield cifar_architecture(depth, kind, block=self.block, widening=width)
            if self.block == "basic" and width == int(width):
                yield wide_architecture(depth + 2, int(width))

    def _extends(self, entry: Architecture) -> bool:
        """Returns whether this is `entry` with options added, or another shortcut or version."""
        same = ("family", "block", "repeats", "widths", "stem_filters", "custom_stem")
        return all(getattr(entry, name) == getattr(self, name) for name in same) and all(
            getattr(entry, name) in (_DEFAULTS[name], getattr(self, name)) for name in ADDED
        )

    def _distance(self, entry: Architecture) -> tuple[int, int]:
        """Returns the distance of the name from that of `entry`: options added, and suffixes."""
        added = sum(getattr(self, name) != getattr(entry, name) for name in ADDED)
        return added, len(self._suffixes(entry))

    def _suffixes(self, entry: Architecture) -> list[str]:
        """Returns the suffixes that tell this network from `entry`."""
        suffixes = []
        # Against the family's where the entry is plain, which its name says.
        if self.shortcut not in (None, entry.shortcut or FAMILIES[self.family].shortcut):
            suffixes.append(str(self.shortcut))
        if self._stride_version != entry._stride_version:
            suffixes.append(str(self.version))
        if (self.groups, self.width_per_group) != (entry.groups, entry.width_per_group):
            suffixes.append(f"{self.groups}x{self.width_per_group}d")
        for name, suffix in _SUFFIXES.items():
            value = getattr(self, name)
            if value != getattr(entry, name):
                suffixes.append(suffix(value))
        return suffixes

    @property
    def _stride_version(self) -> str:
        """Version, "v1" for all that compute the same."""
        same = BLOCKS[self.block].strided(self.version) == BLOCKS[self.block].strided("v1")
        return "v1" if same and self.version not in PREACTIVATED else self.version


@dataclasses.dataclass(frozen=True)
class DenseArchitecture:
    """One named network of densely connected blocks.

    Attributes as in `Architecture`, but for `repeats`, layers per block, and `growth_rate`, the
    channels that each layer adds.
    """

    name: str
    family: str
    depth: int
    repeats: tuple[int, ...]
    growth_rate: int
    custom_stem: Stem | None = None
    source: str = DENSELY_CONNECTED_NETWORKS
    plain: ClassVar[bool] = False

    @property
    def stem(self) -> Stem:
        return self.custom_stem or FAMILIES[self.family].stem


# Options of the builders that make another network, as against another way to train or compute it.
ADDED = (
    *("groups", "width_per_group", "squeeze_excitation", "se_divisor", "deep_stem", "stem_pool"),
    *("shortcut_pool", "activation", "normalization"),
)
OPTIONS = ("shortcut", "version", *ADDED)
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Architecture)}
# Suffixes of options, beside those that `Architecture._suffixes` makes itself.
_SUFFIXES: dict[str, Callable[[Any], str]] = {
    "squeeze_excitation": lambda reduction: f"se{reduction}" if reduction else "no-se",
    "se_divisor": lambda divisor: f"sediv{divisor}",
    "deep_stem": lambda deep: "deep" if deep else "no-deep",
    "stem_pool": lambda pool: f"{pool}-pool",
    "shortcut_pool": lambda pool: "pool" if pool else "no-pool",
    "activation": lambda activation: activation_name(activation),
    "normalization": str,
}


def activation_name(activation: str | Callable) -> str:
    """Returns the name of a nonlinearity in the names of layers, such as "relu"."""
    if not isinstance(activation, str):
        activation = getattr(activation, "__name__", type(activation).__name__)
    return re.sub(r"\W", "", activation).lower()


def _kept_by_name(activation: str | Callable) -> str | Callable:
    """Returns the name of an activation that is one of Keras's own functions."""
    if isinstance(activation, str):
        return activation
    import keras

    own = getattr(keras.activations, activation_name(activation), None) is activation
    return getattr(activation, "__name__", activation) if own else activation


def cifar_repeats(depth: int, block: str = "basic", others: int = 2) -> tuple[int, int, int]:
    """Returns the blocks in each of the three stages of a CIFAR network.

    Args:
        depth: Weighted layers: 6n+2 with basic blocks (section 4.2), 9n+2 with bottlenecks.
        block: Key of `BLOCKS`.
        others: Layers outside of the blocks: 4 in wide networks, whose depth is 6n+4.

    Raises:
        ValueError: If `depth` is not of that form for a whole n >= 1.
    """
    per_n = 3 * BLOCKS[block].weighted_layers
    if not checks.is_whole(depth) or depth < per_n + others or (depth - others) % per_n:
        first = ", ".join(str(per_n * n + others) for n in range(1, 6))
        raise ValueError(
            f"`depth` of a CIFAR network must be {per_n}n+{others} with n >= 1: {first}, ... "
            f"Received: depth={depth!r}"
        )
    return (int(depth - others) // per_n,) * 3


# Table 1 of arXiv 1512.03385: kind and number of the blocks by depth.
TABLE_1 = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
# And those of timm's ResNet26.
IMAGENET_BLOCKS = TABLE_1 | {26: ("bottleneck", (2, 2, 2, 2))}


def _imagenet(name, depth, **options):
    family = FAMILIES["imagenet"]
    options = {"widths": family.widths, "stem_filters": 64, "shortcut": family.shortcut, **options}
    return Architecture(name, "imagenet", depth, *IMAGENET_BLOCKS[depth], **options)


def _cifar(name, depth, block="basic", others=2, **options):
    family = FAMILIES["cifar"]
    options = {"widths": family.widths, "stem_filters": 16, "shortcut": family.shortcut, **options}
    return Architecture(name, "cifar", depth, block, cifar_repeats(depth, block, others), **options)


def cifar_architecture(
    depth: int, shortcut: str | None = "A", *, block: str = "basic", widening: float = 1.0
) -> Architecture:
    """Returns the CIFAR network of any depth, named as its entry of the table would be.

    Networks as deep as one for ImageNet have a prefix: CifarResNet50. `widening` is a factor of the
    widths 16, 32 and 64 and of the stem's filters.

    Raises:
        ValueError: If there is no such network.
    """
    checks.one_of("block", block, tuple(BLOCKS))
    factor = checks.positive("widening", widening)
    widths = tuple(max(1, round(factor * width)) for width in FAMILIES["cifar"].widths)
    name = f"{'PlainNet' if shortcut is None else 'ResNet'}{depth}"
    if depth in IMAGENET_BLOCKS:
        name = f"Cifar{name}"
    if factor != 1.0:
        name += f"x{factor:g}"
    if block != "basic":
        name += f"_{block}"
    return _cifar(name, depth, block, widths=widths, stem_filters=widths[0], shortcut=shortcut)


def wide_architecture(depth: int, widening: int) -> Architecture:
    """Returns the wide CIFAR network of any depth 6n+4, `widening` times as wide as a ResNet."""
    widths = [checks.integer("widening", widening) * width for width in FAMILIES["cifar"].widths]
    return _cifar(
        f"WideResNet{depth}_{widening}",
        depth,
        others=4,
        widths=tuple(widths),
        shortcut="B",
        version="v2",
        source=WIDE_RESIDUAL_NETWORKS,
    )


def dense_architecture(depth: int, growth_rate: int) -> DenseArchitecture:
    """Returns the CIFAR network DenseNet-BC of any depth 6n+4 and growth rate."""
    growth_rate = checks.integer("growth_rate", growth_rate)
    # Two convolutions a layer, as in basic blocks; beside them stem, classifier and transitions.
    repeats = cifar_repeats(depth, others=4)
    name = f"DenseNetBC{depth}_{growth_rate}"
    return DenseArchitecture(name, "cifar", depth, repeats, growth_rate)


# Options that the networks of a paper share.
_CIFAR_V2 = {"shortcut": "B", "version": "v2", "source": IDENTITY_MAPPINGS}
_D = {"version": "v1.5", "deep_stem": True, "shortcut_pool": True, "source": BAG_OF_TRICKS}
_SE = {"squeeze_excitation": 16, "source": SQUEEZE_AND_EXCITATION}
_RESNEXT = {"version": "v1.5", "source": AGGREGATED_TRANSFORMATIONS}
_CIFAR_WIDE = {"widths": (64, 128, 256), "stem_filters": 64, "shortcut": "B"}
_WIDE = {"version": "v1.5", "width_per_group": 128, "source": WIDE_RESIDUAL_NETWORKS}

RESIDUAL_NETWORKS: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        # ImageNet, Table 1 and section 3.3.
        *(_imagenet(f"ResNet{d}", d) for d in TABLE_1),
        *(_imagenet(f"PlainNet{d}", d, shortcut=None) for d in (18, 34)),
        # Bottlenecks in the numbers of 18, as timm has it.
        _imagenet("ResNet26", 26, version="v1.5"),
        # CIFAR-10, section 4.2.
        *(_cifar(f"ResNet{d}", d) for d in (20, 32, 44, 56, 110, 1202)),
        *(_cifar(f"PlainNet{d}", d, shortcut=None) for d in (20, 32, 44, 56, 110)),
        # Pre-activation.
        *(_imagenet(f"ResNet{d}V2", d, version="v2", source=IDENTITY_MAPPINGS) for d in TABLE_1),
        _cifar("ResNet110V2", 110, version="v2", source=IDENTITY_MAPPINGS),
        _cifar("ResNet164V2", 164, "bottleneck", **_CIFAR_V2),
        _cifar("ResNet1001V2", 1001, "bottleneck", **_CIFAR_V2),
        # Deep stem, and average pools in front of projections.
        *(_imagenet(f"ResNet{d}D", d, **_D) for d in TABLE_1),
        # Squeeze-and-excitation, on the networks of the first paper.
        *(_imagenet(f"SEResNet{d}", d, **_SE) for d in TABLE_1),
        # Grouped convolutions: groups x channels of each.
        _imagenet("ResNeXt50_32x4d", 50, groups=32, width_per_group=4, **_RESNEXT),
        _imagenet("ResNeXt101_32x8d", 101, groups=32, width_per_group=8, **_RESNEXT),
        _imagenet("ResNeXt101_64x4d", 101, groups=64, width_per_group=4, **_RESNEXT),
        # Both.
        _imagenet("SEResNeXt50_32x4d", 50, groups=32, width_per_group=4, **(_RESNEXT | _SE)),
        _imagenet("SEResNeXt101_32x4d", 101, groups=32, width_per_group=4, **(_RESNEXT | _SE)),
        _imagenet("SEResNeXt101_64x4d", 101, groups=64, width_per_group=4, **(_RESNEXT | _SE)),
        _cifar("ResNeXt29_8x64d", 29, "bottleneck", **_CIFAR_WIDE, groups=8, **_RESNEXT),
        # Wide: the inner channels of bottlenecks doubled; all of the basic blocks' multiplied.
        _imagenet("WideResNet50_2", 50, **_WIDE),
        _imagenet("WideResNet101_2", 101, **_WIDE),
        wide_architecture(16, 8),
        wide_architecture(28, 10),
        wide_architecture(40, 4),
    )
}


DENSE_NETWORKS: dict[str, DenseArchitecture] = {
    architecture.name: architecture
    for architecture in (
        # ImageNet, Table 1 of arXiv 1608.06993.
        DenseArchitecture("DenseNet121", "imagenet", 121, (6, 12, 24, 16), 32),
        # Only in the authors' code: https://github.com/liuzhuang13/DenseNet.
        DenseArchitecture("DenseNet161", "imagenet", 161, (6, 12, 36, 24), 48),
        DenseArchitecture("DenseNet169", "imagenet", 169, (6, 12, 32, 32), 32),
        DenseArchitecture("DenseNet201", "imagenet", 201, (6, 12, 48, 32), 32),
        DenseArchitecture("DenseNet264", "imagenet", 264, (6, 12, 64, 48), 32),
        # CIFAR, Table 2.
        dense_architecture(100, 12),
    )
}
ARCHITECTURES: dict[str, Architecture | DenseArchitecture] = RESIDUAL_NETWORKS | DENSE_NETWORKS


def identify(arguments: Mapping[str, Any]) -> Architecture | DenseArchitecture:
    """Returns the network that a general builder makes of its checked arguments, under its name.

    Networks that have no name otherwise are called "ResNet" and "DenseNet".
    """
    stem, repeats = arguments["stem"], tuple(arguments["blocks"])
    family, custom = ("imagenet", stem) if isinstance(stem, Stem) else (stem, None)
    if "growth_rate" in arguments:
        depth, rate = 2 * sum(repeats) + len(repeats) + 1, arguments["growth_rate"]
        networks = list(DENSE_NETWORKS.values())
        if family == "cifar" and len(set(repeats)) == 1 and len(repeats) == 3:
            networks.append(dense_architecture(depth, rate))
        network = DenseArchitecture("DenseNet", family, depth, repeats, rate, custom)
        same = [one for one in networks if dataclasses.replace(one, name=network.name) == network]
        return same[0] if same else network
    layers = BLOCKS[arguments["block"]].weighted_layers
    return Architecture(
        name="ResNet" if arguments["shortcut"] else "PlainNet",
        family=family,
        depth=layers * sum(repeats) + 2,
        block=arguments["block"],
        repeats=repeats,
        widths=arguments["widths"],
        stem_filters=arguments["stem_filters"],
        custom_stem=custom,
        # A model that was saved before there was an option has its default.
        **{name: arguments[name] for name in OPTIONS if name in arguments},
    ).named()


def find_architecture(name: str) -> Architecture | DenseArchitecture:
    """Returns the network of that name, whatever the case of its letters.

    Args:
        name: An entry of the table ("ResNet50"), one with another shortcut or version
            ("ResNet50_v1.5", "ResNet34_A"), or a CIFAR network of any depth ("ResNet14").

    Raises:
        ValueError: If there is none.
    """
    found = _by_name().get(str(name).lower())
    if found is None:
        raise ValueError(
            f"`model` must be one of {', '.join(ARCHITECTURES)}. Received: model={name!r}"
        )
    return found


def is_named(name: str | None) -> bool:
    """Returns whether `find_architecture` knows the name."""
    return str(name).lower() in _by_name()


def is_network_name(name: str) -> bool:
    """Returns whether a name is one that the builders give: an entry of any depth, suffixes."""
    return _name_pattern().fullmatch(name) is not None


@functools.cache
def _name_pattern() -> re.Pattern[str]:
    import keras

    entries = {re.sub(r"\d+", r"\\d+", name.lower()) for name in ARCHITECTURES}
    any_entry = "|".join(entries).replace("resnet", "(cifar)?(res|plain)net")
    activations = [name for name in dir(keras.activations) if not name.startswith("_")]
    shortcuts = [shortcut.lower() for shortcut in SHORTCUTS if shortcut]
    words = (*VERSIONS, *NORMALIZATIONS, *BLOCKS, *activations, *shortcuts, "plain")
    suffix = rf"{'|'.join(map(re.escape, words))}|\d+x\d+d|(no-)?(se\d*|deep|pool)|sediv\d+"
    suffix += f"|({'|'.join(STEM_POOLS)})-pool"
    return re.compile(rf"({any_entry})(x[\d.]+)?(_({suffix}))*")


@functools.cache
def _by_name() -> dict[str, Architecture | DenseArchitecture]:
    """Returns all networks by lower-case name, the table's last: their names count."""
    any_depth = (cifar_architecture(6 * n + 2, s) for n in range(1, 201) for s in ("A", None))
    variants = (
        entry.variant(shortcut, version)
        for entry in RESIDUAL_NETWORKS.values()
        for shortcut in SHORTCUTS
        for version in VERSIONS
        if shortcut is not None or version not in PREACTIVATED
    )
    other_pools = (
        entry.variant(entry.shortcut, entry.version, stem_pool=pool)
        for entry in RESIDUAL_NETWORKS.values()
        for pool in STEM_POOLS
        if entry.stem.pool and (pool != "first" or entry.version == "v2")
    )
    networks = (*any_depth, *variants, *other_pools, *ARCHITECTURES.values())
    return {network.name.lower(): network for network in networks}
