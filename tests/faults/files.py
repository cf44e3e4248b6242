"""Campaigns of damaged files: each trial damages one file, and a worker reads it."""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import random
import shutil
import zlib
from pathlib import Path

from PIL import Image

from tests.faults.mutate import TEXTS, damage, forge
from tests.faults.runner import Outcome
from tests.faults.worker import Worker

# The readers of `readers.READERS`, which is imported in workers only.
FORMATS = (
    *("images", ".keras", ".keras as weights", ".weights.h5", "legacy .h5", ".safetensors"),
    *(".pth", "legacy .pth", "checkpoints", "config.json", "metrics.jsonl", "index of a folder"),
    *("class folders", "Hub archives", "Hub handles", "SavedModel", ".tflite", ".onnx"),
    "labels.txt",
)
_PER_BYTE = 20  # Bytes of memory, and half as many written, that a byte of the file may take.
_WRITTEN = 64  # Megabytes that reading any file may write.
_KEPT = 1 << 20  # Bytes of a find, compressed; a larger one is told by its seed alone.

# The tree of a file or folder: name, kind, content. Names may be any bytes.
Tree = list[tuple[str, str, bytes]]


@dataclasses.dataclass
class Files:
    """The campaign of one reader.

    Args:
        reader: Its name in `readers.READERS`.
        folder: Where files go.
        worker: A worker to share; by default one of its own.
    """

    reader: str
    folder: Path
    worker: Worker | None = None

    def __post_init__(self):
        self._worker = self.worker or Worker(self.folder / "worker")
        self._samples: list[Path] = []
        self._values: dict[str, str] = {}
        self._about: dict = {}

    def trial(self, seed: int) -> Outcome:
        """Damages a file, all drawn from the seed, and has it read."""
        self._begin()
        rng = random.Random(seed)
        sample = rng.choice(self._samples)
        forged = rng.random() < 0.6
        tree = changed(tree_of(sample), rng, forged, rename=self.reader == "class folders")
        return self._judge({"sample": sample.name, "forged": forged, "seed": seed}, tree)

    def replay(self, case: dict) -> Outcome:
        """Reads the file of a stored case, or makes it again from its seed."""
        if "files" not in case:
            return self.trial(case["seed"])
        self._begin()
        files = [(name, kind, _decoded(content)) for name, kind, content in case["files"]]
        return self._judge(case, files)

    def whole(self) -> list[Outcome]:
        """Reads every file as it was written."""
        self._begin()
        return [
            self._judge({"sample": sample.name, "forged": False, "whole": True}, tree_of(sample))
            for sample in self._samples
            if self._about["whole"]
        ]

    def close(self) -> None:
        self._worker.close()

    def _begin(self) -> None:
        if not self._samples:
            samples = self.folder / "samples"
            shutil.rmtree(samples, ignore_errors=True)
            samples.mkdir(parents=True)
            about = self._worker.ask({"make": self.reader, "folder": str(samples)}, 300)
            if "died" in about:
                raise RuntimeError(f"{self.reader}: the files to damage: {about['died']}")
            self._about = about
            self._samples = sorted(samples.iterdir())

    def _judge(self, case: dict, tree: Tree) -> Outcome:
        # In a process that has read a whole one, which loads libraries and compiles.
        fresh = self._worker.idle
        if fresh:
            self._values = {}
        if case["sample"] not in self._values:
            whole = self.folder / "samples" / case["sample"]
            answer = self._read(tree_of(whole)) if whole.exists() else {}
            self._values[case["sample"]] = answer.get("value", "")
        answer = self._read(tree)
        size = sum(len(content) for _, _, content in tree) / 2**20
        fault = answer.get("fault")
        if "raised" in answer and "message" in answer:
            fault = fault and f"{fault} ({answer['raised']}: {answer['message'][:160]!r})"
        same = answer.get("value") == self._values[case["sample"]]
        checked = self._about["checked"]
        kept = checked == "content" or (checked == "bytes" and not case["forged"])
        if "value" in answer and not same and kept:
            fault = "accepted with another value, in spite of a checksum"
        if case.get("whole") and not (same and "value" in answer):
            fault = fault or f"refused whole: {answer.get('message', answer)!r}"
            fault = f"{case['sample']}, undamaged: {fault}"
        most = self._about["megabytes"] + _PER_BYTE * size
        if answer.get("megabytes", 0) > most:
            fault = f"{answer['megabytes']:.0f} MB of memory for a file of {size:.2f} MB"
        if answer.get("written", 0) > _WRITTEN + _PER_BYTE / 2 * size:
            fault = f"{answer['written']:.0f} MB written for a file of {size:.2f} MB"
        fault = answer.get("died") or fault
        ended = "refused" if "raised" in answer else "same" if same else "other"
        outcome = Outcome(ended, answer.get("seconds", 0.0), answer.get("megabytes", 0.0))
        if fault:
            files = stored(tree)
            small = sum(len(content) for _, _, content in files) < _KEPT
            outcome = dataclasses.replace(
                outcome,
                ended="found",
                fault=fault,
                case={**case, **({"files": files} if small else {})},
            )
        return outcome

    def _read(self, tree: Tree) -> dict:
        place = self.folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        path = materialize(tree, place)
        order = {"read": self.reader, "path": str(path)}
        return self._worker.ask(order, self._about["seconds"])


def changed(tree: Tree, rng: random.Random, forged: bool, rename: bool = False) -> Tree:
    """Changes one file of a tree, or takes it away; with `rename` names and kinds, too."""
    # A list among pictures, or else any file.
    lists = [i for i, (name, _, _) in enumerate(tree) if name.endswith(".json")]
    index = rng.choice(lists or range(len(tree)))
    name, kind, content = tree[index]
    if rename and rng.random() < 0.7:
        for _ in range(rng.choice((1, 1, 3))):
            index = rng.randrange(len(tree))
            name, kind, content = tree[index]
            tree[index] = _strange(name, kind, content, rng)
        return tree
    if len(tree) > 1 and rng.random() < 0.1:
        return tree[:index] + tree[index + 1 :]
    content = forge(content, rng, name) if forged else damage(content, rng)
    return [*tree[:index], (name, kind, content), *tree[index + 1 :]]


def _strange(name: str, kind: str, content: bytes, rng: random.Random) -> tuple[str, str, bytes]:
    """Gives one part of a path a strange name, or makes its end another thing than a file."""
    parts = name.split("/")
    if rng.random() < 0.7:
        place = rng.randrange(min(2, len(parts) - 1), len(parts))
        text = rng.choice((*TEXTS, "a[1]", "*", "~", " ", "a#b?c", "._0", "VAL", "x" * 251))
        suffix = os.path.splitext(parts[place])[1] if place == len(parts) - 1 else ""
        parts[place] = text.replace("/", "_").replace("\0", "")[:250] + suffix or "x"
        return "/".join(parts), kind, content
    kind = rng.choice(("fifo", "link", "loop", "gone", "folder"))
    return name, kind, content


def tree_of(path: Path) -> Tree:
    if path.is_file():
        return [(path.name, "file", path.read_bytes())]
    return [
        (str(entry.relative_to(path.parent)), "file", entry.read_bytes())
        for entry in sorted(path.rglob("*"))
        if entry.is_file()
    ]


def materialize(tree: Tree, folder: Path) -> Path:
    """Writes a tree into an empty folder, and returns the path of its top."""
    for name, kind, content in tree:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            continue
        if kind == "file":
            path.write_bytes(content)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            target = {"link": "/etc/passwd", "loop": path.name, "gone": "nowhere"}[kind]
            path.symlink_to(target)
    return folder / tree[0][0].split("/")[0]


def class_folders(top: str, count: int) -> Tree:
    """Returns the tree of a data set of two classes, so many small pictures each and split."""
    tree: Tree = []
    for split in ("train", "val"):
        for name, color in (("apple", (200, 10, 10)), ("bee", (200, 200, 10))):
            for number in range(count):
                jpeg = io.BytesIO()
                color = (*color[:2], (color[2] + 7 * number) % 256)
                Image.new("RGB", (8, 8), color).save(jpeg, "JPEG")
                tree.append((f"{top}/{split}/{name}/{number}.jpg", "file", jpeg.getvalue()))
    return tree


def stored(tree: Tree) -> list[list[str]]:
    """Returns a tree as JSON holds it."""
    return [[n, k, base64.b64encode(zlib.compress(c, 9)).decode()] for n, k, c in tree]


def _decoded(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
