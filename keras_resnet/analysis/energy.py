"""Energy counters of the machine: NVML for NVIDIA's GPUs, RAPL for the processor.

Both count what the whole device uses, other processes and idling included. Where a counter is
missing or may not be read (RAPL is for root alone on many systems), there is no meter, and no
figure is made up.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

RAPL_ROOT = "/sys/class/powercap"


class RaplMeter:
    """Reads the energy of all processor packages, and of the memory where it is counted apart.

    Args:
        domains: Folders of Linux's powercap tree that hold `energy_uj`.
    """

    name = "RAPL"

    def __init__(self, domains: list[Path]):
        self._domains = domains
        # The counters start again at zero after this much.
        self._ranges = [_number(domain / "max_energy_range_uj") for domain in domains]

    def read(self) -> list[int]:
        """Returns the counters, in microjoules."""
        return [_number(domain / "energy_uj") for domain in self._domains]

    def joules(self, before: list[int], after: list[int]) -> float | None:
        """Returns the energy between two readings, or None where no counter has moved.

        A counter may have passed its end once in between, which takes minutes at full power.
        """
        moved = (
            end - start if end >= start else end - start + wrap
            for start, end, wrap in zip(before, after, self._ranges, strict=True)
        )
        return sum(moved) / 1e6 or None


class NvmlMeter:
    """Reads the energy of one GPU.

    Args:
        nvml: The module `pynvml`, initialised.
        device: NVML's handle of the GPU.
    """

    name = "NVML"

    def __init__(self, nvml, device):
        self._nvml, self._device = nvml, device

    def read(self) -> int:
        """Returns the counter, in millijoules."""
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)

    def joules(self, before: int, after: int) -> float | None:
        """Returns the energy between two readings, or None where the counter has not moved."""
        return (after - before) / 1e3 or None


def rapl_meter(root: str | Path = RAPL_ROOT) -> RaplMeter | None:
    """Returns a meter of the processor, or None where this machine has none that can be read.

    Args:
        root: Linux's powercap folder.
    """
    domains = []
    # Not "intel-rapl-mmio", the same packages once more, nor "core" and "uncore", parts of them.
    for domain in sorted(Path(root).glob("intel-rapl:*")):
        try:
            name = (domain / "name").read_text().strip()
            _number(domain / "energy_uj")
        except OSError:
            return None
        if re.fullmatch(r"package-\d+|dram", name):
            domains.append(domain)
    return RaplMeter(domains) if domains else None


def nvml_meter() -> NvmlMeter | None:
    """Returns a meter of the first GPU that TensorFlow sees, or None where there is none.

    Needs `pynvml` (`pip install keras-deep-residual[gpu]`), and a GPU that counts its energy:
    Volta or newer.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        # NVML knows all GPUs of the machine, whatever this process may see.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        if visible.isdigit():
            device = pynvml.nvmlDeviceGetHandleByIndex(int(visible))
        else:
            device = pynvml.nvmlDeviceGetHandleByUUID(visible)
        meter = NvmlMeter(pynvml, device)
        meter.read()
    except pynvml.NVMLError:
        return None
    return meter


def _number(path: Path) -> int:
    return int(path.read_text())
