"""Published weights: where each file comes from, and what has to be known to use it.

The sha256 of a file of the Hugging Face hub is pinned where several public projects record the
same, else the file is verified against the sha256 that the hub itself records; of the files of
`keras.applications`, Keras's source pins the md5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnet.architectures import find_architecture, identify
from keras_resnet.preprocessing import CAFFE, Preprocessing
from keras_resnet.utils import checks, download
from keras_resnet.weights.timm_names import timm_network


@dataclasses.dataclass(frozen=True)
class PretrainedWeights:
    """An entry of the table of published weights.

    Attributes:
        name: Name that `weights=` takes.
        network: Name of the network they belong to, as its model is named: "resnet50".
        place: Repository of the Hugging Face hub, or the URL of the file.
        file: Name of the file.
        preprocessing: How images were prepared.
        metrics: Published single-crop accuracies on ImageNet's validation set: side of the image
            in pixels, to (top-1 %, top-5 %).
        recipe: Description of the training.
        license: License of the weights.
        revision: Commit of the repository, or None for its newest.
        sha256: Checksum of the file, where known.
        md5: Checksum of the file, where no sha256 is known.
        classes: Classes of the classifier.
    """

    name: str
    network: str
    place: str
    file: str
    preprocessing: Preprocessing
    metrics: Mapping[int, tuple[float, float]]
    recipe: str
    license: str
    revision: str | None = None
    sha256: str | None = None
    md5: str | None = None
    classes: int = 1000

    @property
    def url(self) -> str:
        """Address of the file."""
        if "://" in self.place:
            return self.place
        return f"https://huggingface.co/{self.place}/resolve/{self.revision or 'main'}/{self.file}"

    def fetch(self) -> Path:
        """Returns the path of the file, downloaded if need be and verified against its checksum.

        Raises:
            ImportError: If it is on the Hugging Face hub and `huggingface_hub` is not installed.
            OSError: If it cannot be downloaded.
            ValueError: If it does not have the checksum.
        """
        if "://" in self.place:
            path = download.keras_cache("keras_resnet") / self.file
            kept = download.keras_cache("models") / self.file  # Keras's own, which locks nothing.
            return download.fetch(self.place, path, self.md5, kept=kept)
        return download.fetch_from_hub(self.place, self.file, self.revision, self.sha256)


_CONVERTED = "as converted for keras.applications"
_STRIKES_BACK = 'Wightman et al., "ResNet strikes back"'
_RECIPES: dict[str, dict[str, Any]] = {
    # The paper's recipe for 90 epochs: torchvision's IMAGENET1K_V1.
    "tv_in1k": {
        "preprocessing": Preprocessing(resize=256),
        "recipe": "https://github.com/pytorch/vision/tree/main/references/classification",
        "license": "BSD-3-Clause",
    },
    # 600 epochs with stronger augmentation, shorter side 232 at test: IMAGENET1K_V2.
    "tv2_in1k": {
        "preprocessing": Preprocessing(resize=232),
        "recipe": "https://github.com/pytorch/vision/issues/3995",
        "license": "BSD-3-Clause",
    },
    # 600 epochs, binary cross-entropy, LAMB; at 288 pixels the crop is the whole image.
    "a1_in1k": {
        "preprocessing": Preprocessing(resize=235, interpolation="bicubic", resizes=((288, 288),)),
        "recipe": f"{_STRIKES_BACK}, procedure A1: arXiv 2110.00476",
        "license": "Apache-2.0",
    },
    # The authors' Torch models, as converted for torchvision.
    "densenet_tv_in1k": {
        "preprocessing": Preprocessing(resize=256),
        "recipe": "https://github.com/liuzhuang13/DenseNet, as converted for torchvision",
        "license": "BSD-3-Clause",
    },
    # A1 with stronger dropout, stochastic depth and RandAugment; timm's models of version "v2" take
    # images in [-1, 1].
    "a1h_in1k": {
        "preprocessing": Preprocessing(
            mean=(127.5,) * 3,
            std=(127.5,) * 3,
            resize=235,
            interpolation="bicubic",
            resizes=((288, 288),),
        ),
        "recipe": f"{_STRIKES_BACK}, procedure A1 with stronger regularization: arXiv 2110.00476",
        "license": "Apache-2.0",
    },
    # 600 epochs, SGD with gradient clipping.
    "c1_in1k": {
        "preprocessing": Preprocessing(resize=235, interpolation="bicubic", resizes=((288, 288),)),
        "recipe": f"{_STRIKES_BACK}, procedure C1: arXiv 2110.00476",
        "license": "Apache-2.0",
    },
    # RandAugment, RMSProp, averaged weights.
    "racm_in1k": {
        "preprocessing": Preprocessing(resize=256, interpolation="bicubic", resizes=((288, 303),)),
        "recipe": f"{_STRIKES_BACK}, as procedure B: arXiv 2110.00476",
        "license": "Apache-2.0",
    },
    "bt_in1k": {
        "preprocessing": Preprocessing(resize=256, interpolation="bicubic", resizes=((288, 303),)),
        "recipe": "https://github.com/huggingface/pytorch-image-models/releases/tag/v0.1-weights",
        "license": "Apache-2.0",
    },
    "gluon_in1k": {
        "preprocessing": Preprocessing(resize=256, interpolation="bicubic"),
        "recipe": "https://cv.gluon.ai/model_zoo/classification.html, as converted for timm",
        "license": "Apache-2.0",
    },
    # The authors' Caffe models.
    "resnet": {
        "preprocessing": CAFFE,
        "recipe": f"https://github.com/KaimingHe/deep-residual-networks, {_CONVERTED}",
        "license": "MIT",
    },
    # The authors' Torch models.
    "densenet": {
        "preprocessing": Preprocessing(resize=256),
        "recipe": f"https://github.com/liuzhuang13/DenseNet, {_CONVERTED}",
        "license": "BSD-3-Clause",
    },
}
# Options that tell such networks from others with the weights of the same shapes.
_TELLING = ("version", "stem_pool")


def _timm(name: str, *accuracies: tuple[float, float], **pinned: Any) -> PretrainedWeights:
    """Returns weights on the Hugging Face hub, with accuracies at 224 and maybe 288 pixels."""
    model, _, training = name.partition(".")
    recipe = _RECIPES.get(f"{model.rstrip('0123456789')}_{training}") or _RECIPES[training]
    return PretrainedWeights(
        name=f"timm/{name}",
        network=identify(timm_network(model)[1]).name.lower(),
        place=f"timm/{name}",
        file="model.safetensors",
        metrics=dict(zip((224, 288), accuracies, strict=False)),
        **(recipe | pinned),
    )


def _keras(network: str, top1: float, top5: float, md5: str) -> PretrainedWeights:
    family = network.rstrip("0123456789")
    file = f"{network}_weights_tf_dim_ordering_tf_kernels.h5"
    return PretrainedWeights(
        name=f"keras/{network}",
        network=network,
        place=f"https://storage.googleapis.com/tensorflow/keras-applications/{family}/{file}",
        file=file,
        metrics={224: (top1, top5)},
        md5=md5,
        **_RECIPES[family],
    )


# "imagenet" stands for the first entry of a network. Accuracies: torchvision's and Keras's own
# documentation; timm's results/results-imagenet.csv.
PRETRAINED: dict[str, PretrainedWeights] = {
    weights.name: weights
    for weights in (
        _timm(
            "resnet18.tv_in1k",
            (69.758, 89.078),
            revision="bbd144b3e5565108aad885f145491d11bc6ce807",
            sha256="694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
        ),
        _timm(
            "resnet34.tv_in1k",
            (73.314, 91.420),
            revision="1b7b21cca82ff974d341713f777bf740c2db38c4",
            sha256="0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
        ),
        _timm(
            "resnet50.tv_in1k",
            (76.130, 92.862),
            revision="78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
            sha256="5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        ),
        _timm("resnet101.tv_in1k", (77.374, 93.546)),
        _timm("resnet152.tv_in1k", (78.312, 94.046)),
        _timm("resnext50_32x4d.tv_in1k", (77.618, 93.698)),
        _timm("resnext101_32x8d.tv_in1k", (79.312, 94.526)),
        _timm(
            "wide_resnet50_2.tv_in1k",
            (78.468, 94.086),
            revision="343c5fa59ca8a131e0cdf42144a641b36a0387c2",
            sha256="df6fb6c4824769769de18e14088475fd6ee94236849aa4e5d8022ba9d9a9a16c",
        ),
        _timm("wide_resnet101_2.tv_in1k", (78.848, 94.284)),
        _keras("resnet50", 74.9, 92.1, "2cb95161c43110f7111970584f804107"),
        _keras("resnet101", 76.4, 92.8, "f1aeb4b969a6efcfb50fad2f0c20cfc5"),
        _keras("resnet152", 76.6, 93.1, "100835be76be38e30d865e96f2aaae62"),
        _keras("densenet121", 75.0, 92.3, "9d60b8095a5708f2dcce2bca79d332c7"),
        _keras("densenet169", 76.2, 93.2, "d699b8f76981ab1b30698df4c175e90b"),
        _keras("densenet201", 77.3, 93.6, "1ceb130c1ea1b78c3bf6114dbdfd8807"),
        _timm("resnet50.tv2_in1k", (80.858, 95.434)),
        _timm("resnet101.tv2_in1k", (81.886, 95.780)),
        _timm("resnet152.tv2_in1k", (82.284, 96.002)),
        _timm("resnext50_32x4d.tv2_in1k", (81.198, 95.340)),
        _timm("resnext101_32x8d.tv2_in1k", (82.834, 96.228)),
        _timm("wide_resnet50_2.tv2_in1k", (81.602, 95.758)),
        _timm("wide_resnet101_2.tv2_in1k", (82.510, 96.020)),
        _timm("resnet18.a1_in1k", (71.504, 90.086), (73.164, 91.054)),
        _timm("resnet34.a1_in1k", (76.420, 92.896), (77.930, 93.758)),
        _timm(
            "resnet50.a1_in1k",
            (80.382, 94.598),
            (81.240, 95.112),
            revision="767268603ca0cb0bfe326fa87277f19c419566ef",
            sha256="773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb",
        ),
        _timm("resnet101.a1_in1k", (81.494, 95.164), (82.326, 95.630)),
        _timm("resnet152.a1_in1k", (81.998, 95.294), (82.742, 95.734)),
        _timm("resnet50d.a1_in1k", (80.730, 94.678), (81.466, 95.218)),
        _timm("seresnet50.a1_in1k", (80.012, 94.704), (81.114, 95.122)),
        _timm("resnext50_32x4d.a1_in1k", (80.526, 94.458), (81.480, 95.152)),
        _timm("resnet26.bt_in1k", (75.298, 92.578), (76.384, 93.178)),
        _timm("seresnext50_32x4d.racm_in1k", (81.268, 95.624), (82.186, 96.146)),
        _timm("seresnext50_32x4d.gluon_in1k", (79.916, 94.816)),
        _timm("seresnext101_32x4d.gluon_in1k", (80.886, 95.268)),
        _timm("seresnext101_64x4d.gluon_in1k", (80.884, 95.308)),
        # torchvision's, by a recipe of its own with the shorter side of 232 at test.
        _timm(
            "resnext101_64x4d.tv_in1k",
            (83.246, 96.454),
            preprocessing=Preprocessing(resize=232),
            recipe="https://github.com/pytorch/vision/pull/5935",
        ),
        _timm("resnext101_64x4d.c1_in1k", (82.446, 95.920), (83.158, 96.370)),
        _timm("resnext101_64x4d.gluon_in1k", (80.640, 95.000)),
        _timm("densenet121.tv_in1k", (74.434, 91.972)),
        _timm("densenet161.tv_in1k", (77.138, 93.560)),
        _timm("densenet169.tv_in1k", (75.600, 92.806)),
        _timm("densenet201.tv_in1k", (76.896, 93.370)),
        _timm("resnetv2_50.a1h_in1k", (80.410, 95.082), (81.406, 95.712)),
        _timm("resnetv2_101.a1h_in1k", (82.042, 95.866), (83.002, 96.444)),
    )
}


def find_pretrained(name: str, network: str) -> PretrainedWeights:
    """Returns the weights of that name, or with "imagenet" the first ones, of a network."""
    fitting = [weights for weights in PRETRAINED.values() if weights.network == network]
    if name == "imagenet" and fitting:
        return fitting[0]
    if name in PRETRAINED and PRETRAINED[name] in fitting:
        return PRETRAINED[name]
    if fitting:
        names = ", ".join(repr(weights.name) for weights in fitting)
        known = f"'imagenet', one of {names}, or the path of a file"
    else:
        networks = dict.fromkeys(weights.network for weights in PRETRAINED.values())
        known = f"the path of a file; none are published for it, only for {', '.join(networks)}"
    received = f"weights={name!r}"
    if name in PRETRAINED:
        other = PRETRAINED[name].network
        options = ((key, getattr(find_architecture(other), key, None)) for key in _TELLING)
        received += f", which are those of {other!r}"
        received += f" ({', '.join(f'{key}={value!r}' for key, value in options)})"
    raise ValueError(f"`weights` for {network!r} must be {known}. Received: {received}")


def preprocess_input(
    images: Any, data_format: str | None = None, *, weights: str | None = None
) -> Any:
    """Standardizes images as the networks expect them.

    Args:
        images: RGB in [0, 255], integer or float, `(..., H, W, 3)`, or `(..., 3, H, W)` for
            channels first; a NumPy array or a tensor.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        weights: Name of the published weights that the images are for, such as "keras/resnet50",
            to subtract and divide by exactly the numbers that those were trained with; None for
            ImageNet's mean and standard deviation, as in torchvision and timm. A model with
            `include_preprocessing=True` uses the exact ones by itself.

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
