"""What a network costs on this machine: time, memory and energy per image, by batch size.

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

import keras
import numpy as np

from keras_resnet.analysis.energy import NvmlMeter, RaplMeter, nvml_meter, rapl_meter
from keras_resnet.analysis.networks import closed_shape, find_network
from keras_resnet.utils import checks
from keras_resnet.utils.processes import death, environment

# The first call traces and compiles, the second touches memory that the first one has freed.
WARM_UP = 2
FEWEST_REPEATS, REPEATS = 3, 10
SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Phase:
    """The cost of one kind of step.

    Attributes:
        seconds_per_image: Median over the repeats.
        first_quartile: A quarter of the repeats took no longer than this per image.
        third_quartile: Three quarters took no longer.
        repeats: Steps measured, after the warm-up.
        memory_bytes: Peak memory of the whole batch with weights and workspace: on a GPU what
            TensorFlow had allocated there, else what the process grew by; None where the machine
            cannot tell.
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
        memory = (
            "unavailable" if self.memory_bytes is None else f"{self.memory_bytes / 2**20:.0f} MiB"
        )
        energy = (
            "unavailable"
            if self.joules_per_image is None
            else f"{self.joules_per_image:.3g} J/image"
        )
        return f"{self.seconds_per_image:.3g} s/image, memory {memory}, energy {energy}"


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
        texts = [f"{what} {phase}" for what, phase in phases.items() if phase]
        return f"{self.name}, batch {self.batch_size}, {self.device}: {'; '.join(texts)}"

    def row(self) -> dict[str, object]:
        """Returns the figures as one flat row."""
        row = dataclasses.asdict(self) | {"image_shape": "x".join(map(str, self.image_shape))}
        phases = {name: row.pop(name) for name in ("forward", "training")}
        for phase, figures in phases.items():
            row |= {f"{phase}_{name}": value for name, value in (figures or {}).items()}
        # None would not say whether the machine cannot tell or nobody asked.
        return {name: "unavailable" if value is None else value for name, value in row.items()}


class MeasurementFailed(RuntimeError):
    """A measurement in a process of its own that did not end well, as for want of memory."""


def measure(
    build: Callable[[], keras.Model],
    batch_size: int,
    *,
    image_size: int = 224,
    training: bool = True,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
    name: str | None = None,
) -> Cost:
    """Measures a network in this process.

    Memory that a process has once had it often keeps, so that its growth is honest only in a fresh
    one: see `measure_apart`.

    Args:
        build: Returns the model: one input of images, class scores as output. It is compiled and
            trained on noise here.
        batch_size: Images per step.
        image_size: Side of the images where the model leaves it open.
        training: Whether to measure training steps too.
        repeats: Most steps to measure, at least 3.
        seconds: After so many seconds 3 steps are enough.
        name: What the result calls the network; by default the model's name.

    Returns:
        The cost.

    Raises:
        ValueError: If an argument is wrong.
    """
    checks.integer("batch_size", batch_size)
    _check_effort(repeats, seconds)
    # What the backend needs for itself is none of the model's.
    keras.ops.convert_to_numpy(keras.ops.ones(1) + 1)
    device = "GPU" if _tensorflow_gpu() else "CPU"
    memory = _GpuMemory() if device == "GPU" else _HostMemory()
    meter = nvml_meter() if device == "GPU" else rapl_meter()

    model = build()
    if len(model.output_shape) != 2:
        raise ValueError(
            "`build` must return a model that ends in class scores. "
            f"Received: a model with outputs {model.output_shape}"
        )
    shape = closed_shape(model, image_size)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (batch_size, *shape)).astype("float32")
    labels = rng.integers(0, model.output_shape[-1], batch_size)

    def phase(step):
        return _measure_phase(step, batch_size, repeats, seconds, memory, meter)

    forward = phase(lambda: model.predict_on_batch(images))
    trained = None
    if training:
        # A rate that leaves the weights finite: other numbers could take other times.
        optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        trained = phase(lambda: model.train_on_batch(images, labels))
    return Cost(
        name=name or model.name,
        batch_size=batch_size,
        image_shape=shape,
        precision=keras.config.dtype_policy().name,
        device=device,
        energy_meter=meter.name if meter else None,
        forward=forward,
        training=trained,
    )


def measure_apart(
    name: str,
    batch_size: int,
    *,
    image_size: int | None = None,
    precision: str = "float32",
    training: bool = True,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
) -> Cost:
    """Measures a network in a fresh process of its own, so that its memory is its own too.

    Args:
        name: Name of the network, as `find_network` takes it.
        batch_size: Images per step.
        image_size: Side of the images; the network's own where not given.
        precision: Keras's dtype policy.
        training: As in `measure`.
        repeats: As in `measure`.
        seconds: As in `measure`.

    Raises:
        ValueError: If there is no such network.
        MeasurementFailed: If the process ends without a result.
    """
    find_network(name)  # a wrong name is told before a process is started for it
    order = {
        "name": name,
        "batch_size": batch_size,
        "image_size": image_size,
        "precision": precision,
        "options": {"training": training, "repeats": repeats, "seconds": seconds},
    }
    process = subprocess.run(
        [sys.executable, "-c", f"import {__name__} as cost; cost.measure_ordered()"],
        env=environment(),
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode < 0:
        raise MeasurementFailed(f"{name}, batch {batch_size}: {death(process.returncode)}")
    if process.returncode > 0:
        reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise MeasurementFailed(f"{name}, batch {batch_size}: {reason}")
    figures = json.loads(process.stdout.splitlines()[-1])
    figures |= {
        "image_shape": tuple(figures["image_shape"]),
        "forward": Phase(**figures["forward"]),
    }
    if figures["training"]:
        figures["training"] = Phase(**figures["training"])
    return Cost(**figures)


def measure_all(
    names: Sequence[str], batch_sizes: Sequence[int], **options
) -> Iterator[Cost | MeasurementFailed]:
    """Measures every network at every batch size, each in a process of its own.

    Args:
        names: Names of networks.
        batch_sizes: Images per step.
        **options: As those of `measure_apart`.

    Yields:
        The cost, or why there is none, as soon as it is known.

    Raises:
        ValueError: If an argument is wrong, before anything is measured.
    """
    for name in names:
        find_network(name)
    for batch_size in batch_sizes:
        checks.integer("batch_size", batch_size)
    _check_effort(options.get("repeats", REPEATS), options.get("seconds", SECONDS))
    return (
        _cost_or_failure(name, batch_size, options) for name in names for batch_size in batch_sizes
    )


def _cost_or_failure(name, batch_size, options):
    try:
        return measure_apart(name, batch_size, **options)
    except MeasurementFailed as failure:
        return failure


def _check_effort(repeats, seconds):
    checks.integer("repeats", repeats, FEWEST_REPEATS)
    checks.positive("seconds", seconds)


def _measure_phase(
    step: Callable[[], object],
    batch_size: int,
    repeats: int,
    seconds: float,
    memory: _HostMemory | _GpuMemory,
    meter: RaplMeter | NvmlMeter | None,
) -> Phase:
    memory.restart()
    for _ in range(WARM_UP):
        step()
    times: list[float] = []
    before = meter.read() if meter else None
    while len(times) < FEWEST_REPEATS or (len(times) < repeats and sum(times) < seconds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    joules = meter.joules(before, meter.read()) if meter else None
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


class _HostMemory:
    """What this process has grown by at its largest, since this object was made."""

    def __init__(self):
        self._before = _largest_resident_bytes()

    def restart(self):
        # The largest size so far cannot be forgotten, so a later phase includes the earlier ones.
        return

    def peak(self) -> int | None:
        """Returns the growth in bytes; None where it is not known, or was too small to show."""
        if self._before is None:
            return None
        return _largest_resident_bytes() - self._before or None


class _GpuMemory:
    """What TensorFlow has allocated on the first GPU at its largest."""

    def restart(self):
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats("GPU:0")

    def peak(self) -> int:
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def _largest_resident_bytes() -> int | None:
    """Returns the largest resident size that this process has had, on Linux.

    Not `getrusage`, whose figure begins with that of the process which started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE).group(1))


def _tensorflow_gpu() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def measure_ordered() -> None:
    """Measures what standard input orders in JSON, and prints the result in JSON.

    The other half of `measure_apart`, run in the process that it starts.
    """
    order = json.load(sys.stdin)
    keras.config.set_dtype_policy(order["precision"])
    network = find_network(order["name"])
    cost = measure(
        lambda: network.build(order["image_size"]),
        order["batch_size"],
        image_size=network.side(order["image_size"]),
        name=network.label,
        **order["options"],
    )
    print(json.dumps(dataclasses.asdict(cost)))
