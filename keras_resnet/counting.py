"""Parameters and multiply-adds of a network by its line of the table, without building it.

Counted as `analysis.complexity` counts them in a built one: parameters without moving statistics,
multiply-adds of convolutions and dense layers.
"""

from __future__ import annotations

import dataclasses

from keras_resnet.architectures import BLOCKS, FAMILIES, Architecture, Stem
from keras_resnet.densenet import BOTTLENECK, COMPRESSION, DenseArchitecture


@dataclasses.dataclass
class Count:
    """What has been counted so far, for images whose maps have now `side` pixels along a side."""

    side: int
    parameters: int = 0
    multiply_adds: int = 0

    def conv(self, size: int, inputs: int, outputs: int, strides: int = 1, groups: int = 1) -> int:
        """Counts a convolution without bias, and returns its channels."""
        self.side = -(-self.side // strides)
        kernel = size**2 * (inputs // groups) * outputs
        self.parameters += kernel
        self.multiply_adds += kernel * self.side**2
        return outputs

    def norm(self, channels: int) -> None:
        self.parameters += 2 * channels

    def dense(self, inputs: int, outputs: int) -> None:
        self.parameters += (inputs + 1) * outputs
        self.multiply_adds += inputs * outputs

    def stem(self, stem: Stem, channels: int, filters: int, norm: bool = True) -> None:
        """Counts the convolutions, and the normalisation after each, and applies the pool."""
        half = max(1, filters // 2)
        strides = stem.strides
        for outputs in (half, half, filters) if stem.deep else (filters,):
            channels = self.conv(stem.kernel_size, channels, outputs, strides)
            strides = 1
            if norm:
                self.norm(channels)
        if stem.pool:
            self.side = -(-self.side // 2)


def count(line: Architecture | DenseArchitecture) -> Count:
    """Counts a network as its builder makes it by default: RGB images, its family's classes."""
    return (_count_dense if isinstance(line, DenseArchitecture) else _count_residual)(line)


def _count_residual(line: Architecture) -> Count:
    family, block = FAMILIES[line.family], BLOCKS[line.block]
    v2 = line.version == "v2"
    total, channels = Count(family.image_size), line.stem_filters
    total.stem(line.stem, 3, channels)
    for stage, (width, repeats) in enumerate(zip(line.widths, line.repeats, strict=True)):
        for number in range(repeats):
            first = stage == number == 0
            strides = 2 if stage and not number else 1
            outputs = width * block.expansion
            projected = line.shortcut == "C" or (
                line.shortcut == "B" and (strides > 1 or channels != outputs)
            )
            if v2 and not first:
                total.norm(channels)
            _count_branch(total, line, channels, width, strides)
            if line.squeeze_excitation:
                reduced = max(1, outputs // line.squeeze_excitation)
                total.dense(outputs, reduced)
                total.dense(reduced, outputs)
            if projected:
                # The branch has shrunk the map already.
                total.conv(1, channels, outputs)
                if not v2:
                    total.norm(outputs)
            channels = outputs
    if v2:
        total.norm(channels)
    total.dense(channels, family.classes)
    return total


def _count_branch(total, line, channels, width, strides):
    block = BLOCKS[line.block]
    inner = width * line.width_per_group // 64 * line.groups
    strided, last = block.strided(line.version), block.weighted_layers - 1
    for i, size in enumerate(block.kernel_sizes):
        outputs = width * block.expansion if i == last else inner
        groups = line.groups if size > 1 else 1
        channels = total.conv(size, channels, outputs, strides if i == strided else 1, groups)
        if i < last or line.version != "v2":
            total.norm(channels)


def _count_dense(line: DenseArchitecture) -> Count:
    family, growth = FAMILIES[line.family], line.growth_rate
    total, channels = Count(family.image_size), 2 * growth
    total.stem(family.stem, 3, channels, norm=family.stem.pool)
    for stage, repeats in enumerate(line.repeats):
        if stage:
            total.norm(channels)
            channels = total.conv(1, channels, int(COMPRESSION * channels))
            total.side //= 2
        for _ in range(repeats):
            total.norm(channels)
            inner = total.conv(1, channels, BOTTLENECK * growth)
            total.norm(inner)
            channels += total.conv(3, inner, growth)
    total.norm(channels)
    total.dense(channels, family.classes)
    return total
