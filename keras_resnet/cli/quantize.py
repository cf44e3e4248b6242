"""Fine-tunes a trained network as one of 8-bit integers, and writes its files.

    keras-resnet quantize --init runs/digits/model.keras --dataset digits --workdir runs/quantized

Quantization-aware training: kernels and the numbers between layers are rounded to 8 bits while the
network learns, with the ranges of these numbers. Writes model.keras, and model.tflite and
model.onnx, which compute in integers and need no calibration images, to --workdir, and report.html
with error and size of the network in float, quantized after training, and trained so. The
classifier of --init stays, so the data are those that it was trained on. Killed and started again
with the same command, it resumes. Needs the extra `export`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from keras_resnet import experiment
from keras_resnet.cli import Arguments, parse_experiment, print_json
from keras_resnet.experiment.settings import OF_THE_NETWORK, QUANTIZED, Experiment

# Less than a tenth of the learning rate of training: the network begins where that ended, and has
# no normalization any more to even out larger steps. Chosen on the digits' validation images.
PRESETS = {
    "default": Experiment.from_flat(
        epochs=10,
        learning_rate=0.003,
        schedule="cosine",
        workdir="runs/quantized",
        keep_best=0,
    )
}
# Settings of the network, which `init` brings, and of what is not done here.
WITHOUT = (
    *("init", "model", "depth", "block", "widening", "shortcut", "version", "squeeze_excitation"),
    *("freeze_bn", "head_epochs", "rate_decay", "recompute_bn", *OF_THE_NETWORK),
    *("smoke", "export", "fine_tune_epochs", "keep_best", "final_weights", "precision"),
    "resume",
)


@dataclasses.dataclass(frozen=True)
class Quantize(Arguments):
    """Arguments of `keras-resnet quantize`.

    Attributes:
        init: Trained network, a .keras file of images in [0, 255] or of one that remembers how to
            prepare them; it keeps its classifier.
        json: Print the content of metrics.json as JSON.
    """

    init: str
    json: bool = False


def main(
    argv: Sequence[str] | None = None,
    description: str | None = __doc__,
    prog: str | None = None,
    presets: Mapping[str, Experiment] = PRESETS,
) -> None:
    """Fine-tunes the network that the flags describe."""
    settings, given = parse_experiment(
        argv, description, presets, Quantize, WITHOUT, prog, kind=QUANTIZED
    )
    figures = experiment.quantization.train_quantized(settings.replace(init=given.init))
    if given.json:
        print_json(figures)
