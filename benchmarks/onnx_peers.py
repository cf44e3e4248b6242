"""Subjects of ONNX Runtime alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime

from benchmarks.common import TORCH_ONNX, batch


def infer(folder: str, batch_size: int = 1) -> Callable[[], object]:
    """Returns a step of the file that `torch_peers.export_onnx` has written."""
    session = onnxruntime.InferenceSession(
        Path(folder, TORCH_ONNX), providers=["CPUExecutionProvider"]
    )
    images = batch(batch_size).transpose(0, 3, 1, 2).copy()
    return lambda: session.run(None, {"images": images})
