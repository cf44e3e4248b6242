"""Measures time, memory and energy per image on this machine, by batch size.

Measured is what a user of Keras gets, from NumPy arrays to NumPy arrays: `predict_on_batch` for
the forward pass, `train_on_batch` with SGD and momentum for a training step. Time and the host's
memory are measured on every backend; the memory of a GPU needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.analysis.energy import Meter, nvml_meter, rapl_meter
from keras_resnet.analysis.networks import closed_shape, find_network
from keras_resnet.utils import checks
from keras_resnet.utils.checks import Size, checked_size
from keras_resnet.utils.processes import death, environment

# The first call traces and compiles, the second uses memory that the first one has freed.
WARM_UP = 2
FEWEST_REPEATS, REPEATS = 3, 10
SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Phase:
    """The cost of one kind of step.

    Attributes:
        seconds_per_image: Median over the repeats.
        first_quartile, third_quartile: Quartiles of the seconds per image.
        repeats: Number of steps measured, after the warm-up.
        memory_bytes: Peak memory of the whole batch with weights and workspace: on a GPU the
            memory that TensorFlow had allocated there, else the growth of the process; None where
            the machine cannot tell.
        joules_per_image: Energy of the whole device over all repeats; None where the machine
            cannot tell.
    """

    seconds_per_image: float
    first_quartile: float
    third_quartile: float
    repeats: int
    memory_bytes: int | None
    joules_per_image: float | None

    def __str__(self) -> str:
        memory, energy = self.memory_bytes, self.joules_per_image
        memory_text = "unavailable" if memory is None else f"{memory / 2**20:.0f} MiB"
        energy_text = "unavailable" if energy is None else f"{energy:.3g} J/image"
        return f"{self.seconds_per_image:.3g} s/image, memory {memory_text}, energy {energy_text}"


@dataclasses.dataclass(frozen=True)
class Cost:
    """The measured cost of a network at one batch size.

    Attributes:
        name: The network.
        batch_size: Images per step.
        image_shape: Shape of one image.
        precision: Keras's dtype policy.
        device: "GPU" or "CPU".
        energy_meter: "NVML", "RAPL", or None.
        forward: One inference.
        training: One training step, or None if not asked for. Its peak memory is that since the
            start of the measurement.
    """

    name: str
    batch_size: int
    image_shape: tuple[int, ...]
    precision: str
    device: str
    energy_meter: str | None
    forward: Phase
    training: Phase | None

    def __str__(self) -> str:
        phases = {"forward": self.forward, "training": self.training}
        texts = [f"{name} {phase}" for name, phase in phases.items() if phase]
        return f"{self.name}, batch {self.batch_size}, {self.device}: {'; '.join(texts)}"

    def row(self) -> dict[str, object]:
        """Returns the figures as one flat row."""
        row = dataclasses.asdict(self) | {"image_shape": "x".join(map(str, self.image_shape))}
        for phase in ("forward", "training"):
            row |= {f"{phase}_{name}": value for name, value in (row.pop(phase) or {}).items()}
        # None would not say whether the machine cannot tell or nobody asked.
        return {name: "unavailable" if value is None else value for name, value in row.items()}


class MeasurementError(RuntimeError):
    """Raised where a measurement in a subprocess fails, often for want of memory."""


def measure(
    build: Callable[[], keras.Model],
    batch_size: int,
    *,
    image_size: Size | str = 224,
    training: bool = True,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
    name: str | None = None,
) -> Cost:
    """Measures a network in this process.

    A process often keeps memory that it has freed, so that only the growth of a fresh one tells
    what a network needs: see `measure_apart`.

    Args:
        build: Returns the model: one input of images, class scores as output. It is compiled and
            trained on noise here.
        batch_size: Images per step.
        image_size: Size of the images where the model leaves it open.
        training: Whether to measure training steps too.
        repeats: Largest number of steps to measure, at least 3.
        seconds: Seconds after which 3 steps are enough.
        name: Name of the network in the result; by default the model's.

    Raises:
        ValueError: If an argument is wrong.
    """
    checks.integer("batch_size", batch_size)
    _check_effort(repeats, seconds)
    # So that what the backend itself allocates is not counted.
    keras.ops.convert_to_numpy(keras.ops.ones(1) + 1)
    gpu = _gpu_statistics()
    meter = nvml_meter() if gpu else rapl_meter()
    options = (batch_size, repeats, seconds, _Memory(gpu), meter)
    model = build()
    if len(model.output_shape) != 2:
        raise ValueError(
            "`build` must return a model that ends in class scores. "
            f"Received: a model with outputs {model.output_shape}"
        )
    shape = closed_shape(model.input_shape[1:], checked_size("image_size", image_size))
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (batch_size, *shape)).astype("float32")
    labels = rng.integers(0, model.output_shape[-1], batch_size)

    forward = _measure_phase(lambda: model.predict_on_batch(images), *options)
    trained = None
    if training:
        # A learning rate that leaves the weights finite: other numbers could take other times.
        optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        trained = _measure_phase(lambda: model.train_on_batch(images, labels), *options)
    return Cost(
        name=name or model.name,
        batch_size=batch_size,
        image_shape=shape,
        precision=keras.config.dtype_policy().name,
        device="GPU" if gpu else "CPU",
        energy_meter=meter.name if meter else None,
        forward=forward,
        training=trained,
    )


def measure_apart(
    name: str,
    batch_size: int,
    *,
    image_size: Size | str | None = None,
    precision: str = "float32",
    training: bool = True,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
) -> Cost:
    """Measures a network in a subprocess, so that its memory is its own.

    `name` is as `find_network` takes it, `image_size` by default the network's own, and `precision`
    Keras's dtype policy; the other arguments are those of `measure`.

    Raises:
        ValueError: If there is no such network.
        MeasurementError: If the process ends without a result.
    """
    find_network(name)  # a wrong name is reported before a process is started for it
    options = {"training": training, "repeats": repeats, "seconds": seconds}
    process = subprocess.run(
        [sys.executable, "-c", f"import {__name__} as cost; cost.measure_ordered()"],
        env=environment(),
        input=json.dumps([name, batch_size, image_size, precision, options]),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        lines = process.stderr.strip().splitlines() or ["no message"]
        reason = death(process.returncode) if process.returncode < 0 else lines[-1]
        raise MeasurementError(f"{name}, batch {batch_size}: {reason}")
    figures = json.loads(process.stdout.splitlines()[-1])
    figures["image_shape"] = tuple(figures["image_shape"])
    for phase in ("forward", "training"):
        figures[phase] = figures[phase] and Phase(**figures[phase])
    return Cost(**figures)


def measure_all(
    names: Sequence[str], batch_sizes: Sequence[int], **options
) -> Iterator[Cost | MeasurementError]:
    """Yields the cost of every network at every batch size, or why there is none.

    Each is measured by `measure_apart` with the options; a wrong argument raises its ValueError
    before anything is measured.
    """
    for name in names:
        find_network(name)
    for batch_size in batch_sizes:
        checks.integer("batch_size", batch_size)
    _check_effort(options.get("repeats", REPEATS), options.get("seconds", SECONDS))

    def outcome(name, batch_size):
        try:
            return measure_apart(name, batch_size, **options)
        except MeasurementError as failure:
            return failure

    return (outcome(name, batch_size) for name in names for batch_size in batch_sizes)


def _check_effort(repeats, seconds):
    checks.integer("repeats", repeats, FEWEST_REPEATS)
    checks.positive("seconds", seconds)


def _measure_phase(step, batch_size, repeats, seconds, memory, meter: Meter | None) -> Phase:
    memory.restart()
    for _ in range(WARM_UP):
        step()
    times: list[float] = []
    before = meter.read() if meter else None
    while len(times) < FEWEST_REPEATS or (len(times) < repeats and sum(times) < seconds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    joules = meter.joules(before, meter.read()) if meter and before is not None else None
    low, median, high = (
        quartile / batch_size for quartile in statistics.quantiles(times, method="inclusive")
    )
    return Phase(
        seconds_per_image=median,
        first_quartile=low,
        third_quartile=high,
        repeats=len(times),
        memory_bytes=memory.peak(),
        joules_per_image=None if joules is None else joules / (len(times) * batch_size),
    )


class _Memory:
    """Peak memory: TensorFlow's on its first GPU, else what this process has grown by."""

    def __init__(self, gpu: Any):
        self._gpu, self._before = gpu, _largest_resident_bytes()

    def restart(self) -> None:
        if self._gpu:  # the growth of a process cannot be reset
            self._gpu.reset_memory_stats("GPU:0")

    def peak(self) -> int | None:
        """Returns bytes; None where they are not known, or the growth was too small to show."""
        if self._gpu:
            return self._gpu.get_memory_info("GPU:0")["peak"]
        after = _largest_resident_bytes()
        return None if self._before is None or after is None else after - self._before or None


def _largest_resident_bytes() -> int | None:
    """Returns the largest resident size that this process has had, on Linux."""
    # Not `getrusage`, whose figure begins with that of the process which started this one.
    status = Path("/proc/self/status")
    found = status.exists() and re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else None


def _gpu_statistics() -> Any:
    """Returns TensorFlow's module with the memory statistics of GPUs, or None without a GPU."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.config.experimental if tf.config.list_physical_devices("GPU") else None


def measure_ordered() -> None:
    """Measures what the standard input of `measure_apart`'s subprocess asks for; both are JSON."""
    name, batch_size, image_size, precision, options = json.load(sys.stdin)
    keras.config.set_dtype_policy(precision)
    network = find_network(name)
    cost = measure(
        lambda: network.build(image_size),
        batch_size,
        image_size=network.size(image_size),
        name=network.label,
        **options,
    )
    print(json.dumps(dataclasses.asdict(cost)))
