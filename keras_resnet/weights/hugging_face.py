"""Networks of the Hugging Face hub, by the configs that timm and transformers put beside weights.

An address is "hf://owner/name", with "@" and a commit, branch or tag for another revision than the
newest. Its config.json says which network the weights are of; what they want done to an image is in
the same file (timm) or in preprocessor_config.json (transformers).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.architectures import BLOCKS
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils import checks, download
from keras_resnet.utils.callers import warn_caller
from keras_resnet.utils.files import parse_json
from keras_resnet.weights.beside import LABELS, PREPROCESSING
from keras_resnet.weights.timm_names import timm_network

SCHEME = "hf://"
# Key in config.json of repositories of this package, and the file of their model.
OWN, _OWN_FILE = "keras_resnet", "model.keras"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")

# Filters by timm's names, and by PIL's numbers, which transformers writes.
_BICUBIC = 3
_FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", 2: "bilinear", _BICUBIC: "bicubic"}
# More than any camera's: every one takes a number of the preparation.
_MOST_CHANNELS = 4096
# Side of the images that networks are compared on. A larger test_input_size of timm's is one more
# size; else it is the size, and what they were trained on smaller.
_USUAL = 224
# What is done in place of other crops.
_CENTER = "the center of an image is shown"

# Parts of transformers' names, and those of torchvision and timm; a bare model has no "resnet.".
_NAMES = (
    (r"^resnet\.", ""),
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"^classifier\.1\.", "fc."),
)
_IN_BLOCK = re.compile(
    r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(shortcut|layer\.\d+)\.(convolution|normalization)\.(\w+)"
)


@dataclasses.dataclass(frozen=True)
class HubNetwork:
    """A network of the hub, downloaded.

    Attributes:
        address: Its address, with the commit.
        file: The file of its weights.
        builder: Name of the general builder that makes it; None for a `.keras` file, which tells.
        arguments: That builder's arguments, without the weights.
        transformers: Whether its weights have the names of transformers.
    """

    address: str
    file: Path
    builder: str | None = None
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    transformers: bool = False

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Preparation of images, or None if the repository does not tell."""
        return self.arguments.get("include_preprocessing") or None

    def torch_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Returns weights under the names of torchvision and timm."""
        return {torch_name(name) if self.transformers else name: v for name, v in state.items()}


def is_address(weights: object) -> bool:
    """Returns whether a name of weights is an address of the hub."""
    return isinstance(weights, str) and weights.startswith(SCHEME)


def expect_repository(argument: str, address: str) -> str:
    """Returns the repository, "owner/name", of an address without a revision."""
    matched = _ADDRESS.fullmatch(str(address))
    if matched is None or matched[2]:
        raise ValueError(
            f"`{argument}` must be 'hf://owner/name'. Received: {argument}={address!r}"
        )
    return matched[1]


def find_network(address: str) -> HubNetwork:
    """Downloads a network's config and weights, verified against what the hub records of them.

    Raises:
        ValueError: If the address is malformed, or the repository is of a network that the builders
            do not make.
        OSError: If a file cannot be downloaded.
        ImportError: If `huggingface_hub` is not installed.
    """
    matched = _ADDRESS.fullmatch(address)
    if matched is None:
        raise ValueError(
            "`weights` must be 'hf://owner/name', which '@' and a revision may follow, for a "
            f"network of the Hugging Face hub. Received: weights={address!r}"
        )
    repository, revision = matched.groups()
    path = download.fetch_from_hub(repository, "config.json", revision, None)
    # All files of one commit, whatever is pushed meanwhile.
    commit = path.parent.name if re.fullmatch("[0-9a-f]{40}", path.parent.name) else revision
    address = f"{SCHEME}{repository}" + (f"@{commit}" if commit else "")
    config, processor = _read(path, address), None
    if OWN in config:
        for name in (LABELS, PREPROCESSING):  # to lie beside the model in the cache
            _optional(repository, name, commit)
        return HubNetwork(address, download.fetch_from_hub(repository, _OWN_FILE, commit, None))
    transformers = config.get("model_type") == "resnet"
    if transformers and (told := _optional(repository, "preprocessor_config.json", commit)):
        processor = _read(told, address)
    try:
        if transformers:
            builder, arguments = "ResNet", from_transformers(config, processor)
        else:
            builder, arguments = from_timm(config)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = repr(error) if isinstance(error, KeyError) else checks.first_line(error)
        raise ValueError(
            "`weights` must be a ResNet or DenseNet of timm or transformers, or of keras_resnet. "
            f"Received: weights={address!r}, whose config.json is of another ({reason})"
        ) from error
    if prepared := arguments["include_preprocessing"]:
        arguments["include_preprocessing"] = dataclasses.replace(prepared, source=address)
    safe, other = _WEIGHTS
    file = _optional(repository, safe, commit)
    file = file or download.fetch_from_hub(repository, other, commit, None)
    return HubNetwork(address, file, builder, arguments, transformers)


def from_transformers(
    config: Mapping[str, Any], processor: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns the arguments of `ResNet` by config.json and preprocessor_config.json.

    Raises:
        ValueError: If it is of no network that `ResNet` builds.
    """
    kind = checks.one_of("layer_type", config.get("layer_type", "bottleneck"), tuple(BLOCKS))
    checks.one_of("hidden_act", config.get("hidden_act", "relu"), ("relu",))
    if config.get("downsample_in_first_stage", False):
        raise ValueError("its first stage has a stride")
    sizes = config.get("hidden_sizes", [256, 512, 1024, 2048])
    if any(size % BLOCKS[kind].expansion for size in sizes):
        raise ValueError(f"its hidden sizes {sizes} are no multiples of {BLOCKS[kind].expansion}")
    names = _names(config.get("id2label") or {})
    top = any("ForImageClassification" in str(n) for n in config.get("architectures") or ())
    classes = len(config.get("id2label") or ()) or config.get("num_labels", 2)
    problem, channels = config.get("problem_type"), config.get("num_channels", 3)
    if checks.integer("num_channels", channels) > _MOST_CHANNELS:
        raise ValueError(f"its images have {channels} channels")
    activations = {"multi_label_classification": "sigmoid", "regression": None}
    return {
        "blocks": tuple(config.get("depths", (3, 4, 6, 3))),
        "block": kind,
        "widths": tuple(size // BLOCKS[kind].expansion for size in sizes),
        "stem_filters": config.get("embedding_size", 64),
        "version": "v1" if config.get("downsample_in_bottleneck", False) else "v1.5",
        "input_shape": _input_shape(
            channels, (None, None) if processor is None else (_side(processor),) * 2
        ),
        "include_preprocessing": processor is not None and _prepared(processor, channels, names),
        **_top(classes if top else 0, activations.get(str(problem), "softmax")),
    }


def from_timm(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the general builder and its arguments by timm's config.json.

    Raises:
        ValueError: If it is of no network that the builders make.
    """
    # Old ones have everything on one level.
    about = config.get("pretrained_cfg") or config
    builder, network = timm_network(str(config["architecture"]))
    own = dict(config.get("model_args") or {})
    classes = own.pop("num_classes", config.get("num_classes", about.get("num_classes", 1000)))
    channels, *sides = about.get("input_size", (3, 224, 224))
    channels = own.pop("in_chans", channels)
    checks.one_of("global_pool", own.pop("global_pool", config.get("global_pool", "avg")), ("avg",))
    if own:
        raise ValueError(f"it is built with {', '.join(map(str, own))}")
    names = config.get("label_names") or about.get("label_names")
    told = config.get("label_descriptions") or about.get("label_descriptions") or {}
    if names is not None and len(names) != classes:
        names = None
    if about.get("crop_mode", "center") != "center":
        _warn(f"crop_mode {about['crop_mode']!r}", _CENTER)
    numbers = (about.get("mean", (0.485, 0.456, 0.406)), about.get("std", (0.229, 0.224, 0.225)))
    mean, std = (tuple(255 * value for value in values) for values in numbers)
    told_filter = about.get("interpolation", "bicubic")
    names = names and tuple(str(told.get(name, name)) for name in names)
    size, crop = _pair(sides), about.get("crop_pct", 0.875)
    resizes: tuple[tuple[tuple[int, int], int], ...] = ()
    if "test_input_size" in about:
        test_size = _pair(about["test_input_size"][1:])
        test_crop = about.get("test_crop_pct", crop)
        if min(test_size) <= _USUAL:
            size, crop = test_size, test_crop
        else:
            resizes = ((test_size, _resize(test_size, "test_crop_pct", test_crop)),)
    prepared = _preprocessing(mean, std, size, crop, told_filter, names)
    prepared = dataclasses.replace(prepared, resizes=resizes)
    return builder, {
        **network,
        "input_shape": _input_shape(channels, size),
        "include_preprocessing": prepared if len(prepared.mean) == channels else False,
        **_top(classes, "softmax"),
    }


def torch_name(name: str) -> str:
    """Returns the name that torchvision has for a weight of transformers' ResNet."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    found = _IN_BLOCK.fullmatch(name)
    if found is None:
        return name
    stage, block, part, kind, weight = found.groups()
    place = f"layer{int(stage) + 1}.{block}"
    if part == "shortcut":
        return f"{place}.downsample.{int(kind == 'normalization')}.{weight}"
    number = int(part.removeprefix("layer.")) + 1
    return f"{place}.{'conv' if kind == 'convolution' else 'bn'}{number}.{weight}"


def _top(classes: int, activation: str | None) -> dict[str, Any]:
    if not classes:
        return {"include_top": False, "pooling": "avg"}
    return {"classes": classes, "classifier_activation": activation}


def _input_shape(
    channels: int, sides: tuple[int, int] | tuple[None, None]
) -> tuple[int | None, ...]:
    first = keras.config.image_data_format() == "channels_first"
    return (channels, *sides) if first else (*sides, channels)


def _pair(sides: Sequence[Any]) -> tuple[int, int]:
    """Returns height and width."""
    height, width = sides
    return int(height), int(width)


def _resize(size: tuple[int, int], name: str, crop: Any) -> int:
    """Returns the shorter side of an image of which so large a part is cropped."""
    return int(min(size) / checks.positive(name, crop))


def _names(labels: Mapping[str, str]) -> tuple[str, ...] | None:
    """Returns the names of the classes in order, None for numbers that stand for names."""
    names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    numbered = [f"LABEL_{i}" for i in range(len(names))]
    in_order = [int(key) for key in sorted(labels, key=int)] == list(range(len(names)))
    return names if names and in_order and list(names) != numbered else None


def _side(processor: Mapping[str, Any]) -> int:
    """Returns the side of the images that a processor gives out."""
    size = processor.get("crop_size") if processor.get("do_center_crop") else None
    size = processor.get("size", 224) if size is None else size
    if isinstance(size, Mapping):
        size = size.get("shortest_edge", size.get("height"))
    return checks.integer("size", size)


def _prepared(
    processor: Mapping[str, Any], channels: int, names: tuple[str, ...] | None
) -> Preprocessing:
    """Returns what a processor of images does."""
    side, size = _side(processor), processor.get("size", 224)
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size
    kind = processor.get("image_processor_type", processor.get("feature_extractor_type", ""))
    # ConvNeXt's, which Microsoft's ResNets have, crops below 384 pixels only.
    convnext = str(kind).startswith("ConvNext")
    if convnext and side < 384:
        crop = processor.get("crop_pct") or 224 / 256
    elif processor.get("do_center_crop") and edge:
        crop = side / edge
    else:
        crop = 1.0
        _warn("no crop, whatever the sides of an image", _CENTER)
    scale = 1.0
    if processor.get("do_rescale", True):
        scale = 1.0 / checks.positive("rescale_factor", processor.get("rescale_factor", 1 / 255))
    mean: Any = 0.0
    std: Any = 1.0
    if processor.get("do_normalize", True):
        mean, std = processor.get("image_mean", 0.5), processor.get("image_std", 0.5)
    scaled = (scale * np.asarray(values, "float64") for values in (mean, std))
    mean, std = (tuple(np.broadcast_to(values, channels).tolist()) for values in scaled)
    return _preprocessing(mean, std, (side, side), crop, processor.get("resample", _BICUBIC), names)


def _preprocessing(
    mean: Any,
    std: Any,
    size: tuple[int, int],
    crop: float,
    told: Any,
    names: tuple[str, ...] | None,
) -> Preprocessing:
    """Returns the center crop of that size from an image that is size / crop.

    It is resized by the filter that is `told`, by name or number.
    """
    if not np.isfinite([mean, std]).all() or min(std) <= 0:
        raise ValueError(f"it divides by the deviation {std}, behind the mean {mean}")
    if told not in _FILTERS:
        _warn(f"interpolation {told!r}", "images are resized by 'bicubic'")
    resize = _resize(size, "crop_pct", crop)
    return Preprocessing(mean, std, size, resize, _FILTERS.get(told, "bicubic"), names)


def _warn(of: str, here: str) -> None:
    warn_caller(f"The weights were trained with {of}; here {here}")


def _read(path: Path, address: str) -> Mapping[str, Any]:
    """Returns the content of a file of JSON."""
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        content = checks.first_line(error)
    if not isinstance(content, Mapping):
        raise ValueError(
            f"`weights` must have a {path.name} with an object of JSON. "
            f"Received: weights={address!r}, with {content!r}"
        )
    return content


def _optional(repository: str, file: str, revision: str | None) -> Path | None:
    """Returns a file, or None if the repository has none of that name."""
    try:
        return download.fetch_from_hub(repository, file, revision, None)
    except download.NoSuchFileError:
        return None
