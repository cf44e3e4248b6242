"""Published accuracies of networks, each with the protocol it was measured by and its source.

Accuracies of networks with weights come from the table of the weights (`weights.registry`). Here
are those without: other networks of `keras.applications`, and plain networks and other shortcuts,
which the paper alone published. The paper tested the latter on 10 crops, which adds one to two
points over a single one: compare like with like.
"""

from __future__ import annotations

import dataclasses

from keras_resnet.weights.registry import PRETRAINED


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The accuracy of a network.

    Attributes:
        top1: Share of test images, in [0, 1], whose label has the highest score.
        top5: Share of those whose label is among the five highest, or None where not known.
        image_size: Side of the test images in pixels; 0 where not known.
        protocol: "single crop", "10 crops", "single view", or the name that a measurement gives.
        source: Address or arXiv number; of a measured accuracy, the file or value it came from.
        measured: Whether it was measured by the user, not published.
        recipe: How the weights were trained, where the source has several recipes.
    """

    top1: float
    top5: float | None
    image_size: int
    protocol: str
    dataset: str
    source: str
    measured: bool = False
    recipe: str = ""


_KERAS = "https://keras.io/api/applications/"
_PAPER = "arXiv 1512.03385"


def _share(percent):
    # Rounded, so that 74.9 % is 0.749 and not a number next to it.
    return None if percent is None else round(percent / 100, 6)


def _imagenet(top1, top5, image_size=224, protocol="single crop", source=_KERAS, recipe=""):
    """Makes an entry from percentages as they are published."""
    shares = _share(top1), _share(top5)
    return Accuracy(*shares, image_size, protocol, "ImageNet", source, recipe=recipe)


def _ten_crops(top1_error, top5_error=None):
    top5 = None if top5_error is None else 100 - top5_error
    return _imagenet(100 - top1_error, top5, protocol="10 crops", source=f"{_PAPER}, tables 2, 3")


def _cifar10(error):
    return Accuracy(_share(100 - error), None, 32, "single view", "CIFAR-10", f"{_PAPER}, table 6")


# By the names of models, such as "resnet50_v1.5". Only those trained as in the papers, since
# accuracies of stronger recipes are no measure of an architecture.
_AS_IN_THE_PAPERS = PRETRAINED["timm/resnet18.tv_in1k"].recipe
_WITH_WEIGHTS = {
    weights.network: _imagenet(
        *weights.metrics[224], source=f"{weights.recipe} ({name})", recipe=weights.recipe
    )
    for name, weights in PRETRAINED.items()
    if name.startswith("keras/") or weights.recipe == _AS_IN_THE_PAPERS
}

# By the names of `keras.applications`.
APPLICATIONS: dict[str, Accuracy] = {
    **{f"ResNet{depth}": _WITH_WEIGHTS[f"resnet{depth}"] for depth in (50, 101, 152)},
    **{f"DenseNet{depth}": _WITH_WEIGHTS[f"densenet{depth}"] for depth in (121, 169, 201)},
    "Xception": _imagenet(79.0, 94.5, 299),
    "VGG16": _imagenet(71.3, 90.1),
    "VGG19": _imagenet(71.3, 90.0),
    "ResNet50V2": _imagenet(76.0, 93.0),
    "ResNet101V2": _imagenet(77.2, 93.8),
    "ResNet152V2": _imagenet(78.0, 94.2),
    "InceptionV3": _imagenet(77.9, 93.7, 299),
    "InceptionResNetV2": _imagenet(80.3, 95.3, 299),
    "MobileNet": _imagenet(70.4, 89.5),
    "MobileNetV2": _imagenet(71.3, 90.1),
    "NASNetMobile": _imagenet(74.4, 91.9),
    "NASNetLarge": _imagenet(82.5, 96.0, 331),
    "EfficientNetB0": _imagenet(77.1, 93.3),
    "EfficientNetB1": _imagenet(79.1, 94.4, 240),
    "EfficientNetB2": _imagenet(80.1, 94.9, 260),
    "EfficientNetB3": _imagenet(81.6, 95.7, 300),
    "EfficientNetB4": _imagenet(82.9, 96.4, 380),
    "EfficientNetB5": _imagenet(83.6, 96.7, 456),
    "EfficientNetB6": _imagenet(84.0, 96.8, 528),
    "EfficientNetB7": _imagenet(84.3, 97.0, 600),
    "EfficientNetV2B0": _imagenet(78.7, 94.3),
    "EfficientNetV2B1": _imagenet(79.8, 95.0, 240),
    "EfficientNetV2B2": _imagenet(80.5, 95.1, 260),
    "EfficientNetV2B3": _imagenet(82.0, 95.8, 300),
    "EfficientNetV2S": _imagenet(83.9, 96.7, 384),
    "EfficientNetV2M": _imagenet(85.3, 97.4, 480),
    "EfficientNetV2L": _imagenet(85.7, 97.5, 480),
    "ConvNeXtTiny": _imagenet(81.3, None),
    "ConvNeXtSmall": _imagenet(82.3, None),
}

# Without weights, by our own names, which may have a suffix for the shortcut: ResNet34_A.
PAPER: dict[str, Accuracy] = {
    "PlainNet18": _ten_crops(27.94),
    "PlainNet34": _ten_crops(28.54, 10.02),
    "ResNet18_A": _ten_crops(27.88),
    "ResNet34_A": _ten_crops(25.03, 7.76),
    "ResNet34_C": _ten_crops(24.19, 7.40),
    "ResNet20": _cifar10(8.75),
    "ResNet32": _cifar10(7.51),
    "ResNet44": _cifar10(7.17),
    "ResNet56": _cifar10(6.97),
    "ResNet110": _cifar10(6.43),
    "ResNet1202": _cifar10(7.93),
}


def published_accuracy(name: str) -> Accuracy | None:
    """Returns the accuracy published for one of our networks, such as "ResNet50_v1.5"."""
    return PAPER.get(name) or _WITH_WEIGHTS.get(name.lower())
