"""Ways in which files are damaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NOISE = np.random.default_rng(0).bytes(5000)
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "its end cut off": lambda content: content[:-30],
    "noise": lambda content: NOISE,
    "text": lambda content: b"404: Not Found\n",
}
