"""Says what is installed and which devices there are, and tries a step of training.

    keras-resnet doctor

Each line is a finding: "ok", or "missing", "broken" or "slow" with the remedy. The exit code is 1
where something that training needs does not work.
"""

import contextlib
import dataclasses
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from packaging.requirements import Requirement

from keras_resnet import data, models, training
from keras_resnet.analysis.machine import processor_features
from keras_resnet.cli import Arguments, parse, print_json
from keras_resnet.utils.checks import first_line
from keras_resnet.version import __version__

DISTRIBUTION = "keras-deep-residual"
# Extras that are not for users.
_DEVELOPMENT = ("all", "browser", "docs", "test")


class Finding(NamedTuple):
    """A line of the report: `state` is "ok", "missing", "slow" or "broken"."""

    state: str
    what: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True)
class Doctor(Arguments):
    """Arguments of `keras-resnet doctor`.

    Attributes:
        json: Print the findings as JSON.
    """

    json: bool = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Prints the findings; exits with 1 where training does not work."""
    given = parse(Doctor, argv, __doc__, prog)
    found = [*_installed(), start := _start()]
    if start.state == "ok":
        found += [*_machine(), *_step()]
    if given.json:
        print_json([finding._asdict() for finding in found])
    else:
        for state, what, remedy in found:
            print(f"{state:8}{what}" + f": {remedy}" * bool(remedy))
    if start.state == "missing" or any(finding.state == "broken" for finding in found):
        sys.exit(1)


def _installed() -> Iterator[Finding]:
    yield Finding("ok", f"keras_resnet {__version__}")
    yield Finding("ok", f"python {platform.python_version()}")
    for name in ("keras", "tensorflow"):
        # A build of it may be a distribution of another name: `_start` tells what is missing.
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield Finding("ok", f"{name} {metadata.version(name)}")
    try:
        required = metadata.requires(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield Finding("missing", f"{DISTRIBUTION}, of which this is a checkout", "pip install -e .")
        return
    extras: dict[str, list[str]] = {}
    for text in required or ():
        requirement = Requirement(text)
        for extra in metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ():
            marker = requirement.marker
            if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
                extras.setdefault(extra, [])
                if not _fits(requirement):
                    extras[extra].append(str(requirement).partition(";")[0].strip())
    for extra, missing in extras.items():
        if extra in _DEVELOPMENT:
            continue
        if missing:
            remedy = f"pip install '{DISTRIBUTION}[{extra}]'"
            yield Finding("missing", f"extra {extra} ({', '.join(missing)})", remedy)
        else:
            yield Finding("ok", f"extra {extra}")


def _fits(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _start() -> Finding:
    """Imports all that training needs."""
    try:
        training.Trainer  # noqa: B018, which imports what is deferred
    except Exception as error:  # Whatever is wrong with the installation.
        if isinstance(error, ModuleNotFoundError) and error.name in ("tensorflow", "keras"):
            return Finding("missing", f"the package {error.name}", f"pip install {error.name}")
        # TensorFlow's own error holds the traceback of its cause.
        causes = re.findall(r"^\w+Error: .*", str(error), re.MULTILINE)
        cause = causes[-1] if causes else f"{type(error).__name__}: {first_line(error)}"
        remedy = "pip install --force-reinstall tensorflow keras"
        return Finding("broken", f"the import of TensorFlow and Keras ({cause})", remedy)
    return Finding("ok", "TensorFlow and Keras can be imported")


def _machine() -> Iterator[Finding]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        yield Finding("ok", f"GPU {details.get('device_name', gpu.name)}")
    if not gpus and (shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists()):
        remedy = f"pip install '{DISTRIBUTION}[gpu]', and a driver that fits it"
        yield Finding("missing", "an NVIDIA GPU that TensorFlow cannot use", remedy)
    found = processor_features()
    features = [f"{name} ({use})" for name, use in found.items()]
    processor = f"{os.cpu_count()} cores of {platform.machine()}"
    yield Finding("ok", f"processor: {processor}, {', '.join(features) or 'no features known'}")
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        yield Finding("slow", "oneDNN kernels are off", "unset TF_ENABLE_ONEDNN_OPTS")
    else:
        yield Finding("ok", "oneDNN kernels are on")
    if any("bf16" in name for name in found) or gpus:
        yield Finding("ok", "--precision mixed_bfloat16 has hardware")
    else:
        yield Finding("ok", "--precision float32; bfloat16 has no hardware here")
    free = shutil.disk_usage(".").free
    yield Finding("ok" if free > 2**30 else "slow", f"{free / 2**30:.1f} GiB free in this folder")


def _step() -> Iterator[Finding]:
    """Trains a small network on noise for two steps."""
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")
    dataset = data.ArrayDataset("noise", {"train": (images, np.arange(16) % 2)}, ("a", "b"))
    for precision in ("float32", "mixed_bfloat16"):
        start = time.perf_counter()
        try:
            training.set_precision(precision)
            strategy = training.make_strategy()
            with strategy.scope():
                model = models.CifarResNet(8, input_shape=(8, 8, 1), classes=2)
                trainer = training.Trainer(
                    model, training.sgd(0.01), training.CrossEntropy(), strategy=strategy
                )
            trainer.fit(dataset, 8, steps=2, validation_split=None)
        except Exception as error:  # Whatever is wrong with the installation.
            yield Finding("broken", f"training in {precision}", f"{type(error).__name__}: {error}")
            continue
        finally:
            training.set_precision("float32")
        seconds = time.perf_counter() - start
        yield Finding("ok", f"two steps of training in {precision}: {seconds:.1f} s with tracing")
