"""Measures the latency of slimmed networks beside their multiply-adds.

    python -m benchmarks.slimmed --update docs/guides/search.md

A ResNet20 of random weights, for images of 32x32, is slimmed to shares of its multiply-adds, with
channels of any number and with multiples of 8. Each is a LiteRT file in float; all take turns with
one image by one thread.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

import keras_resnet
from benchmarks.int8 import conditions, latencies, rewrite
from keras_resnet.analysis import complexity
from keras_resnet.export import export
from keras_resnet.utils.tables import markdown_table

START, END = "<!-- slimmed -->", "<!-- end of slimmed -->"
SHAPE = (32, 32, 3)


def main(argv: Sequence[str] | None = None) -> None:
    """Slims, exports and measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.75, 0.5, 0.25])
    parser.add_argument("--divisors", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--update", type=Path, help="page to write the table into")
    given = parser.parse_args(argv)
    model = keras_resnet.ResNet20(input_shape=SHAPE, include_preprocessing=True)
    rng, total = np.random.default_rng(0), complexity(model).multiply_adds
    for layer in model.layers:  # those of a new network are all alike, and rank nothing
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
    nets = {"whole": model} | {
        _named(share, divisor): keras_resnet.slim(
            model, max_multiply_adds=int(share * total), divisor=divisor
        )
        for divisor in given.divisors
        for share in given.shares
    }
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{i}.tflite") for i, name in enumerate(nets)}
        for name, path in files.items():
            export(nets[name], path, "litert")
        sizes = {name: path.stat().st_size for name, path in files.items()}
        milliseconds = latencies(files, (1, *SHAPE))
    rows = [
        {
            "network": name,
            "multiply-adds": (count := complexity(net).multiply_adds),
            "share": f"{count / total:.2f}",
            "kB": f"{sizes[name] / 1000:.0f}",
            "ms": f"{milliseconds[name]:.3f}",
            "share of the time": f"{milliseconds[name] / milliseconds['whole']:.2f}",
        }
        for name, net in nets.items()
    ]
    text = f"{markdown_table(rows)}\n\n{conditions()}"
    print(text)
    if given.update is not None:
        rewrite(given.update, START, END, text)


def _named(share: float, divisor: int) -> str:
    return f"{share:g}" + ("" if divisor == 1 else f", multiples of {divisor}")


if __name__ == "__main__":
    main()
