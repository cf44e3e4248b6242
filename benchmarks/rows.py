"""The rows of the suite: what is measured of whom, and the goals.

A contender is a function of a module here that builds a subject, and returns its step. It is called
in a subprocess, with its options, and with the `folder` of what it `needs`: a contender
again, which writes its files there once for all rows and has no step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

OURS = "ours"
BEST = "best"
VNNI = ("avx512_vnni", "avx_vnni")

# Measures of a row: figures of `Samples`, or the sum of two.
BUILD, FIRST, STEP, MEMORY = "build", "first step", "step", "memory"
BUILD_AND_FIRST = "build + first step"
LOAD_AND_FIRST = "load + first prediction"


@dataclasses.dataclass(frozen=True, eq=False)
class Contender:
    """A subject: its function as "module:function" and its options."""

    subject: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs: Contender | None = None

    @property
    def ours(self) -> bool:
        """Whether it measures this package."""
        return self.subject.partition(":")[0] == OURS


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a figure is to be at most.

    Attributes:
        measure: One of the row's.
        most: Largest ratio to the row's anchor, or with `seconds` the largest median.
        contender: Whose figure; `BEST` for the lowest of this package's.
        seconds: Whether the goal is no ratio.
        features: Of these the processor must have one.
    """

    measure: str
    most: float
    contender: str
    seconds: bool = False
    features: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        name: As the command takes it.
        about: What is measured.
        contenders: By name; the anchor of ratios is `anchor`, or the first that is not ours.
        measures: What is reported.
        goals: For this package's contenders.
        anchor: Name of the contender that ratios are to.
        rounds: Processes of each contender, one after the other.
        turns: Steps of each process after the first, in turns.
        calls: Calls of the step in a turn, for short ones.
        first: Whether there is a first step.
        alone: Whether a contender has all turns of a round at once, as what reads ahead would do
            its work in the turns of others.
    """

    name: str
    about: str
    contenders: Mapping[str, Contender]
    measures: Sequence[str] = (STEP,)
    goals: Sequence[Goal] = ()
    anchor: str = ""
    rounds: int = 1
    turns: int = 20
    calls: int = 1
    first: bool = True
    alone: bool = False

    def quick(self) -> Row:
        """Returns the row with as few rounds and turns as show that it works."""
        return dataclasses.replace(self, rounds=1, turns=min(self.turns, 3))


EAGER, COMPILED = "PyTorch", "PyTorch, compiled"
PACKAGE = "this package"


def _training(
    name: str,
    network: str,
    batch_size: int,
    image_size: int,
    goals: Mapping[str, float],
    *,
    bfloat16: bool = False,
    peers: Sequence[str] = (COMPILED,),
    ours: Mapping[str, Any] | None = None,
    **others: Any,
) -> Row:
    """Returns a row of training steps; ratios are to PyTorch's eager ones in channels-last."""
    shared = {"batch_size": batch_size, "image_size": image_size, "bfloat16": bfloat16}
    own = {"network": network, **(ours or {})}
    torch_net = {"network": network.lower(), **shared}
    every = {
        COMPILED: Contender("torch_peers:train", {**torch_net, "compiled": True}),
        "Keras fit, same network": Contender("ours:train", {**own, **shared, "fit": True}),
        "keras.applications, fit": Contender("keras_peers:train", {"network": network, **shared}),
    }
    contenders = {
        PACKAGE: Contender("ours:train", {**own, **shared}),
        EAGER: Contender("torch_peers:train", torch_net),
        **{peer: every[peer] for peer in peers},
    }
    precision = "bfloat16" if bfloat16 else "float32"
    return Row(
        name,
        f"training step of {network}, {image_size}x{image_size}, batch {batch_size}, {precision}",
        contenders,
        others.pop("measures", (FIRST, STEP)),
        others.pop("goals", [Goal(measure, most, PACKAGE) for measure, most in goals.items()]),
        anchor=EAGER,
        **others,
    )


SAME, APPLICATIONS = "Keras fit, same network", "keras.applications, fit"
RECOMPUTING = "this package, recomputing"
_DEEPEST = {"batch_size": 16, "image_size": 32, "network": "ResNet1202"}

_PHOTOGRAPHS = Contender("photographs:write", {"count": 256, "width": 500, "height": 375})
_LARGE = Contender("photographs:write", {"count": 16, "width": 4000, "height": 3000})
_TORCH_FILE = Contender("torch_peers:export_onnx", {"network": "resnet50"})
TORCH_ONNX = "ONNX Runtime, torchvision's export"

# In one process: most of the time of each would go to imports and to building the network.
_FLOATS = ["keras", "saved_model", "onnx", "tflite", "hub"]
_FORMS = Contender("ours:write", {"network": "ResNet50", "forms": _FLOATS})
_INT8 = Contender("ours:write", {"network": "ResNet50", "forms": ["int8.tflite"]})


def _inference(batch_size: int, best: float, calls: int) -> Row:
    shared = {"batch_size": batch_size}

    def form(name: str, **options: Any) -> Contender:
        return Contender("ours:infer", {"form": name, **shared, **options}, _FORMS)

    return Row(
        f"infer-resnet50-b{batch_size}",
        f"inference by ResNet50, 224x224, batch {batch_size}, from array to array",
        {
            "SavedModel": form("saved_model"),
            "SavedModel, frozen": form("saved_model", frozen=True),
            "ONNX": form("onnx"),
            "LiteRT": form("tflite"),
            "Hub module": form("hub"),
            "predict, .keras": Contender("ours:predict", shared, _FORMS),
            TORCH_ONNX: Contender("onnx_peers:infer", shared, _TORCH_FILE),
            EAGER: Contender("torch_peers:infer", {"network": "resnet50", **shared}),
        },
        goals=[
            Goal(STEP, best, BEST),
            Goal(STEP, 1.1, "SavedModel"),
            Goal(STEP, 1.0, "ONNX"),
            Goal(STEP, 1.2, "predict, .keras"),
        ],
        anchor=TORCH_ONNX,
        calls=calls,
    )


def _inputs(
    name: str,
    about: str,
    needs: Contender,
    anchor: str,
    most: float,
    *,
    batch_size: int,
    calls: int = 1,
) -> Row:
    """Returns a row of pipelines; a turn reads eight batches, more than is read ahead."""
    options = {"batch_size": batch_size}
    return Row(
        name,
        f"{about}, in batches of {batch_size}",
        {
            PACKAGE: Contender("ours:read", options, needs),
            "torchvision, PIL": Contender("torch_peers:read", options, needs),
            "TensorFlow, whole images": Contender("keras_peers:read", options, needs),
        },
        goals=[Goal(STEP, most, PACKAGE)],
        anchor=anchor,
        rounds=5,
        turns=4,
        calls=calls,
        alone=True,
    )


ROWS = {
    row.name: row
    for row in (
        _training(
            *("train-resnet20", "ResNet20", 128, 32, {STEP: 0.85}),
            peers=(COMPILED, SAME),
            rounds=3,
        ),
        _training(
            *("train-resnet110", "ResNet110", 128, 32, {STEP: 0.9, FIRST: 1.1}),
            peers=(),  # compiling it takes PyTorch many minutes
            rounds=3,
        ),
        _training(
            *("train-resnet50", "ResNet50", 16, 224, {STEP: 0.65, FIRST: 2.0}),
            peers=(COMPILED, APPLICATIONS),
            ours={"version": "v1.5"},
            rounds=2,
        ),
        _training(
            *("train-resnet50-bfloat16", "ResNet50", 16, 224, {STEP: 0.8}),
            bfloat16=True,
            peers=(),
            ours={"version": "v1.5"},
            rounds=2,
        ),
        _training(
            *("train-resnet20-bfloat16", "ResNet20", 128, 32, {STEP: 0.8}),
            bfloat16=True,
            peers=(),
            rounds=3,
        ),
        Row(
            "train-resnet1202",
            "training step of ResNet1202, 32x32, batch 16, float32",
            {
                PACKAGE: Contender("ours:train", _DEEPEST),
                RECOMPUTING: Contender("ours:train", {**_DEEPEST, "recompute": True}),
                EAGER: Contender("torch_peers:train", {**_DEEPEST, "network": "resnet1202"}),
            },
            (BUILD_AND_FIRST, STEP, MEMORY),
            [
                Goal(BUILD_AND_FIRST, 1.0, PACKAGE),
                Goal(STEP, 0.9, PACKAGE),
                Goal(MEMORY, 1.0, PACKAGE),
                Goal(STEP, 1.25, RECOMPUTING),
                Goal(MEMORY, 0.65, RECOMPUTING),
            ],
            anchor=EAGER,
            rounds=2,
            turns=5,
        ),
        _inference(1, 0.85, 3),
        _inference(8, 1.0, 1),
        Row(
            "load-resnet50",
            "loading a ResNet50 and its first prediction, libraries already imported",
            {
                "SavedModel": Contender("ours:infer", {"form": "saved_model"}, _FORMS),
                "ONNX": Contender("ours:infer", {"form": "onnx"}, _FORMS),
                ".keras": Contender("ours:infer", {"form": "keras"}, _FORMS),
                "TensorFlow alone": Contender("keras_peers:infer", {}, _FORMS),
                TORCH_ONNX: Contender("onnx_peers:infer", {}, _TORCH_FILE),
            },
            (LOAD_AND_FIRST,),
            [Goal(LOAD_AND_FIRST, 1.0, "SavedModel", seconds=True)],
            anchor="TensorFlow alone",
            rounds=5,
            turns=0,
        ),
        Row(
            "int8-litert",
            "inference by ResNet50 as a LiteRT file, 224x224, batch 1",
            {
                "int8": Contender("ours:infer", {"form": "int8.tflite"}, _INT8),
                "float32": Contender("ours:infer", {"form": "tflite"}, _FORMS),
            },
            goals=[Goal(STEP, 0.45, "int8", features=VNNI)],
            anchor="float32",
            turns=40,
            calls=3,
        ),
        _inputs(
            "input-500x375",
            "256 photographs of 500x375 decoded, cropped at random to 224x224 and flipped",
            _PHOTOGRAPHS,
            "torchvision, PIL",
            0.55,
            batch_size=32,
        ),
        _inputs(
            "input-4000x3000",
            "16 photographs of 4000x3000, likewise",
            _LARGE,
            "TensorFlow, whole images",
            0.45,
            batch_size=4,
            calls=2,
        ),
        Row(
            "build-resnet152",
            "building ResNet152",
            {
                PACKAGE: Contender("ours:build", {"network": "ResNet152"}),
                "keras.applications": Contender("keras_peers:build", {"network": "ResNet152"}),
            },
            goals=[Goal(STEP, 1.0, PACKAGE)],
            anchor="keras.applications",
            turns=10,
        ),
    )
}  # fmt: skip
