"""Energy counters of the machine: NVML for NVIDIA's GPUs, RAPL for the processor.

Both count what the whole device uses, other processes and idling included. Where a counter is
missing or may not be read (RAPL is for root alone on many systems), there is no meter, and no
figure is made up.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path

RAPL_ROOT = "/sys/class/powercap"


@dataclasses.dataclass(frozen=True)
class Meter:
    """Counters of a device's energy, each of which starts again at zero after its range."""

    name: str
    read: Callable[[], list[int]]
    per_joule: float
    ranges: list[int]

    def joules(self, before: list[int], after: list[int]) -> float | None:
        """Returns the energy between two readings, or None where no counter has moved.

        A counter may have started again once in between, which takes minutes at full power.
        """
        steps = zip(before, after, self.ranges, strict=True)
        return sum((end - start) % wrap for start, end, wrap in steps) / self.per_joule or None


def rapl_meter(root: str | Path = RAPL_ROOT) -> Meter | None:
    """Returns a meter of all processor packages and their memory, or None if none is readable."""
    domains = []
    # Not "intel-rapl-mmio", the same packages once more, nor "core" and "uncore", parts of them.
    for domain in sorted(Path(root).glob("intel-rapl:*")):
        try:
            name = (domain / "name").read_text().strip()
            _numbers([domain], "energy_uj")
        except OSError:
            return None
        if re.fullmatch(r"package-\d+|dram", name):
            domains.append(domain)
    if not domains:
        return None
    ranges = _numbers(domains, "max_energy_range_uj")
    return Meter("RAPL", lambda: _numbers(domains, "energy_uj"), 1e6, ranges)


def nvml_meter(count: int = 1) -> Meter | None:
    """Returns a meter of the first GPUs that TensorFlow sees, or None where there is none.

    Needs `pynvml` (`pip install keras-deep-residual[gpu]`), and GPUs that count their energy:
    Volta or newer.

    Args:
        count: Number of GPUs.
    """
    try:
        import pynvml
    except ImportError:
        return None
    # NVML knows all GPUs of the machine, whatever this process may see.
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = list(map(str, range(count))) if named is None else named.split(",")[:count]
    try:
        pynvml.nvmlInit()
        devices = [
            pynvml.nvmlDeviceGetHandleByIndex(int(one))
            if one.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(one)
            for one in map(str.strip, visible)
        ]
        energy = pynvml.nvmlDeviceGetTotalEnergyConsumption
        for device in devices:
            energy(device)
    except pynvml.NVMLError:
        return None
    ranges = [2**64] * len(devices)
    return Meter("NVML", lambda: [energy(device) for device in devices], 1e3, ranges)


def _numbers(domains: list[Path], file: str) -> list[int]:
    return [int((domain / file).read_text()) for domain in domains]
