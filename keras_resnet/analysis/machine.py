"""The processor of this machine."""

from __future__ import annotations

import platform
from pathlib import Path

# Features of a processor by what TensorFlow's kernels use them for.
FEATURES = {
    "avx2": "vectors of 8 float32",
    "avx512f": "vectors of 16 float32",
    "avx512_vnni": "int8",
    "avx_vnni": "int8",
    "avx512_bf16": "bfloat16",
    "bf16": "bfloat16",
    "amx_bf16": "bfloat16 matrices",
    "amx_int8": "int8 matrices",
}


def processor_name() -> str:
    """Returns the processor's name, or its architecture where the system does not tell it."""
    return _of_the_system("model name") or platform.processor() or platform.machine()


def processor_features() -> dict[str, str]:
    """Returns those of `FEATURES` that the processor has; none where the system is not Linux."""
    flags = set((_of_the_system("flags") or _of_the_system("Features")).split())
    return {name: use for name, use in FEATURES.items() if name in flags}


def _of_the_system(key: str) -> str:
    """Returns what Linux says of the first core under a key, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
