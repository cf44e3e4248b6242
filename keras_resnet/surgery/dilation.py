"""Larger maps from trained networks: strides replaced by dilation, with the same weights."""

from __future__ import annotations

from keras_resnet.network import Network
from keras_resnet.surgery.rebuilding import rebuild


def dilate(model: Network, output_stride: int) -> Network:
    """Returns a copy whose maps are no coarser than `output_stride`, with the same weights.

    It is the network built again with that `output_stride`. Strides that would go beyond become 1,
    and the kernels behind them are dilated accordingly (atrous convolution). The layer whose
    stride is replaced keeps its dilation, so that the 3x3 convolution that had it in the first
    block of a stage (version "v1.5", basic blocks) is dilated as the stage before.

    In inference the maps of the copy contain those of `model`, to rounding, at every position that
    `model` has: with strides 8 and 32, as `[:, ::4, ::4]`. That holds at the borders and for odd
    sizes too; not for DenseNet where an odd map loses its last row, and not where a layer depends
    on the whole map (squeeze-and-excitation, group normalization).

    Source: Chen et al., arXiv 1606.00915, section 3.1; Yu, Koltun, Funkhouser, arXiv 1705.09914.

    Args:
        model: Network of this package, trained or not, with or without its classifier; it is
            unchanged. With the classifier the outputs are the mean over more positions;
            `surgery.score_map` has them one by one.
        output_stride: Stride of the last map: that of the stem's end, 4 for ImageNet and 1 for
            CIFAR, or twice, four or eight times that.

    Returns:
        A model like `model`, which is not compiled.

    Raises:
        ValueError: If `model` does not remember how it was built, or none of its maps has that
            stride.
    """
    return rebuild(model, output_stride=output_stride)
