"""The table of published weights: where each file comes from, and what has to be known to use it.

Nothing here imports a package of an extra; files are fetched only when they are asked for.

A checksum is written down only where it is known: the sha256 of a file of the Hugging Face hub is
pinned where several public projects record the same, else the file is verified against the sha256
that the hub itself records; of the files of `keras.applications`, Keras's source pins the md5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnet.architectures import ARCHITECTURES, find_architecture
from keras_resnet.preprocessing import CAFFE, Preprocessing
from keras_resnet.utils import checks, download


@dataclasses.dataclass(frozen=True)
class PretrainedWeights:
    """One line of the table.

    Attributes:
        name: What `weights=` takes.
        network: Name of the network they belong to, as its model is named: "resnet50".
        place: Repository of the Hugging Face hub, or the URL of the file.
        file: Name of the file.
        revision: Commit of the repository, or None for its newest.
        sha256: Of the file, where known.
        md5: Of the file, where no sha256 is known.
        preprocessing: What the images went through.
        classes: Classes of the classifier.
        metrics: Published single-crop accuracies on ImageNet's validation set: side of the image
            in pixels, to (top-1 %, top-5 %).
        recipe: Where the training is described.
        licence: Under which the weights are given away.
    """

    name: str
    network: str
    place: str
    file: str
    preprocessing: Preprocessing
    metrics: Mapping[int, tuple[float, float]]
    recipe: str
    licence: str
    revision: str | None = None
    sha256: str | None = None
    md5: str | None = None
    classes: int = 1000

    @property
    def url(self) -> str:
        """Where the file can be had."""
        if "://" in self.place:
            return self.place
        return f"https://huggingface.co/{self.place}/resolve/{self.revision or 'main'}/{self.file}"

    def fetch(self) -> Path:
        """Returns the file, downloaded if need be and verified against its checksum in any case.

        Raises:
            ImportError: If it is on the Hugging Face hub and `huggingface_hub` is not installed.
            OSError: If it cannot be had.
            ValueError: If it is not the file it should be.
        """
        if "://" in self.place:
            path = download.keras_cache("keras_resnet") / self.file
            kept = download.keras_cache("models") / self.file  # Keras's own, which locks nothing.
            return download.fetch(self.place, path, self.md5, kept=kept)
        return download.fetch_from_hub(self.place, self.file, self.revision, self.sha256)


def _v1_5(name: str) -> str:
    """Returns the name of the network with strides on the 3x3 convolutions of its bottlenecks."""
    return ARCHITECTURES[name].variant("B", "v1.5").name.lower()


_STRIKES_BACK = 'Wightman et al., "ResNet strikes back", procedure A1: arXiv 2110.00476'
_TORCHVISION = "https://github.com/pytorch/vision/tree/main/references/classification"
_TORCHVISION_2 = "https://github.com/pytorch/vision/issues/3995"


def _timm(tag, network, metrics, preprocessing, recipe, licence, **pinned):
    repository = f"timm/{tag}"
    return PretrainedWeights(
        repository,
        network,
        repository,
        "model.safetensors",
        preprocessing,
        metrics,
        recipe,
        licence,
        **pinned,
    )


def _torchvision(model, network, top1, top5, **pinned):
    """IMAGENET1K_V1: the paper's recipe for 90 epochs."""
    return _timm(
        f"{model}.tv_in1k",
        network,
        {224: (top1, top5)},
        Preprocessing(),
        _TORCHVISION,
        "BSD-3-Clause",
        **pinned,
    )


def _torchvision_2(model, network, top1, top5):
    """IMAGENET1K_V2: 600 epochs with stronger augmentation, shorter side 232 at test."""
    preprocessing = Preprocessing(crop=224 / 232)
    return _timm(
        f"{model}.tv2_in1k",
        network,
        {224: (top1, top5)},
        preprocessing,
        _TORCHVISION_2,
        "BSD-3-Clause",
    )


def _a1(model, network, at_224, at_288, **pinned):
    """600 epochs, binary cross-entropy, LAMB; at 288 pixels the crop is the whole image."""
    return _timm(
        f"{model}.a1_in1k",
        network,
        {224: at_224, 288: at_288},
        Preprocessing(crop=0.95, interpolation="bicubic"),
        _STRIKES_BACK,
        "Apache-2.0",
        **pinned,
    )


def _keras(network, top1, top5, md5):
    """The authors' Caffe models, or what Keras's authors made after them."""
    recipe = "https://github.com/KaimingHe/deep-residual-networks"
    return _converted("resnet", network, CAFFE, {224: (top1, top5)}, recipe, "MIT", md5)


def _keras_dense(network, top1, top5, md5):
    """The authors' Torch models."""
    recipe = "https://github.com/liuzhuang13/DenseNet"
    metrics = {224: (top1, top5)}
    return _converted("densenet", network, Preprocessing(), metrics, recipe, "BSD-3-Clause", md5)


def _converted(folder, network, preprocessing, metrics, recipe, licence, md5):
    """Other people's models, as `keras.applications` has them."""
    file = f"{network}_weights_tf_dim_ordering_tf_kernels.h5"
    return PretrainedWeights(
        f"keras/{network}",
        network,
        f"https://storage.googleapis.com/tensorflow/keras-applications/{folder}/{file}",
        file,
        preprocessing,
        metrics,
        f"{recipe}, as converted for keras.applications",
        licence,
        md5=md5,
    )


# "imagenet" stands for the first line of a network. Accuracies: torchvision's and Keras's own
# documentation; timm's results/results-imagenet.csv.
PRETRAINED: dict[str, PretrainedWeights] = {
    weights.name: weights
    for weights in (
        _torchvision(
            "resnet18",
            "resnet18",
            *(69.758, 89.078),
            revision="bbd144b3e5565108aad885f145491d11bc6ce807",
            sha256="694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
        ),
        _torchvision(
            "resnet34",
            "resnet34",
            *(73.314, 91.420),
            revision="1b7b21cca82ff974d341713f777bf740c2db38c4",
            sha256="0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
        ),
        _torchvision(
            "resnet50",
            _v1_5("ResNet50"),
            *(76.130, 92.862),
            revision="78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
            sha256="5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        ),
        _torchvision("resnet101", _v1_5("ResNet101"), 77.374, 93.546),
        _torchvision("resnet152", _v1_5("ResNet152"), 78.312, 94.046),
        _torchvision("resnext50_32x4d", "resnext50_32x4d", 77.618, 93.698),
        _torchvision("resnext101_32x8d", "resnext101_32x8d", 79.312, 94.526),
        _torchvision(
            "wide_resnet50_2",
            "wideresnet50_2",
            *(78.468, 94.086),
            revision="343c5fa59ca8a131e0cdf42144a641b36a0387c2",
            sha256="df6fb6c4824769769de18e14088475fd6ee94236849aa4e5d8022ba9d9a9a16c",
        ),
        _torchvision("wide_resnet101_2", "wideresnet101_2", 78.848, 94.284),
        _keras("resnet50", 74.9, 92.1, "2cb95161c43110f7111970584f804107"),
        _keras("resnet101", 76.4, 92.8, "f1aeb4b969a6efcfb50fad2f0c20cfc5"),
        _keras("resnet152", 76.6, 93.1, "100835be76be38e30d865e96f2aaae62"),
        _keras_dense("densenet121", 75.0, 92.3, "9d60b8095a5708f2dcce2bca79d332c7"),
        _keras_dense("densenet169", 76.2, 93.2, "d699b8f76981ab1b30698df4c175e90b"),
        _keras_dense("densenet201", 77.3, 93.6, "1ceb130c1ea1b78c3bf6114dbdfd8807"),
        _torchvision_2("resnet50", _v1_5("ResNet50"), 80.858, 95.434),
        _torchvision_2("resnet101", _v1_5("ResNet101"), 81.886, 95.780),
        _torchvision_2("resnet152", _v1_5("ResNet152"), 82.284, 96.002),
        _torchvision_2("resnext50_32x4d", "resnext50_32x4d", 81.198, 95.340),
        _torchvision_2("resnext101_32x8d", "resnext101_32x8d", 82.834, 96.228),
        _torchvision_2("wide_resnet50_2", "wideresnet50_2", 81.602, 95.758),
        _torchvision_2("wide_resnet101_2", "wideresnet101_2", 82.510, 96.020),
        _a1("resnet18", "resnet18", (71.504, 90.086), (73.164, 91.054)),
        _a1("resnet34", "resnet34", (76.420, 92.896), (77.930, 93.758)),
        _a1(
            "resnet50",
            _v1_5("ResNet50"),
            (80.382, 94.598),
            (81.240, 95.112),
            revision="767268603ca0cb0bfe326fa87277f19c419566ef",
            sha256="773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb",
        ),
        _a1("resnet101", _v1_5("ResNet101"), (81.494, 95.164), (82.326, 95.630)),
        _a1("resnet152", _v1_5("ResNet152"), (81.998, 95.294), (82.742, 95.734)),
        _a1("resnet50d", "resnet50d", (80.730, 94.678), (81.466, 95.218)),
        _a1("seresnet50", _v1_5("SEResNet50"), (80.012, 94.704), (81.114, 95.122)),
        _a1("resnext50_32x4d", "resnext50_32x4d", (80.526, 94.458), (81.480, 95.152)),
    )
}


def find_pretrained(name: str, network: str) -> PretrainedWeights:
    """Returns the line of the table for a name, or for "imagenet", and a network.

    Args:
        name: Name of the weights, or "imagenet" for the first ones of the network.
        network: Name of the network, such as "resnet50".

    Raises:
        ValueError: If there are no such weights, or they are those of another network.
    """
    fitting = [weights for weights in PRETRAINED.values() if weights.network == network]
    if name == "imagenet" and fitting:
        return fitting[0]
    if name in PRETRAINED and PRETRAINED[name] in fitting:
        return PRETRAINED[name]
    if fitting:
        known = f"for {network!r} be 'imagenet', {', '.join(repr(w.name) for w in fitting)}"
    else:
        networks = dict.fromkeys(weights.network for weights in PRETRAINED.values())
        known = f"be a path for {network!r}; there are published ones for {', '.join(networks)}"
    received = f"weights={name!r}"
    if name in PRETRAINED:
        other = PRETRAINED[name].network
        received += f", which are those of {other!r}"
        received += f" (version={getattr(find_architecture(other), 'version', None)!r})"
    raise ValueError(f"`weights` must {known}. Received: {received}")


def preprocess_input(
    images: Any, data_format: str | None = None, *, weights: str | None = None
) -> Any:
    """Standardises images as the networks expect them.

    Args:
        images: RGB in [0, 255], integer or float, `(..., H, W, 3)`, or `(..., 3, H, W)` for
            channels first; a NumPy array or a tensor.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        weights: Name of the published weights that the images are for, such as "keras/resnet50",
            if they are to have exactly the mean and deviation that those were trained with; None
            for ImageNet's, as of torchvision and timm. What is done inside of a model with
            `include_preprocessing=True` is exact by itself.

    Returns:
        `(images - mean) / std` per channel, about -2.1 to 2.6; a NumPy array for a NumPy array,
        else a tensor; float32, or the dtype of floating-point images.

    Raises:
        ValueError: If the images do not have three channels, or there are no such weights.
    """
    if weights is None:
        return Preprocessing().standardize(images, data_format)
    checks.one_of("weights", weights, tuple(PRETRAINED))
    return PRETRAINED[weights].preprocessing.standardize(images, data_format)
