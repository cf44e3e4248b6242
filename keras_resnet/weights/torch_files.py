"""State dicts out of files of PyTorch, without PyTorch and without running what a pickle asks for.

A `.pth` file is a pickle: a program for a small stack machine, which can have Python call any of
its functions. Here that program is interpreted, not run. It can put together numbers, texts, lists,
dictionaries and tensors; whatever else it names is refused.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

_DTYPES = {
    "torch DoubleStorage": np.float64,
    "torch FloatStorage": np.float32,
    "torch HalfStorage": np.float16,
    "torch BFloat16Storage": ml_dtypes.bfloat16,
    "torch LongStorage": np.int64,
    "torch IntStorage": np.int32,
    "torch ShortStorage": np.int16,
    "torch CharStorage": np.int8,
    "torch ByteStorage": np.uint8,
    "torch BoolStorage": np.bool_,
}
_REBUILD = ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2")
_REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
_ORDERED_DICT = "collections OrderedDict"
_KNOWN = (*_DTYPES, *_REBUILD, _REBUILD_PARAMETER, _ORDERED_DICT)
# What begins a file older than PyTorch 1.6.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Under which training scripts keep the state dict, and what wrappers put before its names.
_KEYS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the state dict of a file that `torch.save` wrote, in either of its formats.

    Args:
        path: The file: a state dict, or a checkpoint that has one under "state_dict",
            "model_state_dict" or "model". What `DataParallel` and `torch.compile` put before the
            names is taken off.

    Returns:
        Arrays by name.

    Raises:
        ValueError: If the file holds anything but tensors, numbers and texts, in lists and
            dictionaries. Errors of other types too, if it is damaged.
    """
    with open(path, "rb") as file:
        content = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
        size = _size(file)
    for key in _KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError("it holds no state dict")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise ValueError(f"{name!r} in it is no tensor; save the model's state_dict() alone")
    if sum(tensor.nbytes for tensor in content.values()) > size:
        raise ValueError("its tensors share their numbers, and would be more than the file has")
    arrays = {name: tensor.array() for name, tensor in content.items()}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): value for name, value in arrays.items()}
    return arrays


@dataclasses.dataclass
class _Storage:
    """Numbers in a row. They lie elsewhere in the file and are filled in after the pickle."""

    dtype: np.dtype
    size: int
    content: bytes = b""

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage: `size[i]` elements along axis i, `stride[i]` apart."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self):
        axes = len(self.size)
        good = isinstance(self.storage, _Storage) and axes == len(self.stride) <= _MOST_AXES
        numbers = (self.offset, *self.size, *self.stride)
        if not good or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a tensor is ill-formed")
        steps = zip(self.size, self.stride, strict=True)
        last = self.offset + sum((n - 1) * step for n, step in steps)
        elements = math.prod(self.size)
        if elements > self.storage.size or (elements and last >= self.storage.size):
            raise ValueError("a tensor is larger than its storage")

    @property
    def nbytes(self) -> int:
        return math.prod(self.size) * self.storage.dtype.itemsize

    def array(self) -> np.ndarray:
        values = np.frombuffer(self.storage.content, self.storage.dtype, self.storage.size)
        strides = [step * values.itemsize for step in self.stride]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.size, strides)
        return view.copy()


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name that the pickle takes for a function or class; never looked up in Python."""

    name: str


# More make no sense, and numbers out of so many grow without end.
_MOST_AXES = 8
_CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _interpret(file: BinaryIO, storages: dict[str, _Storage], byte_order: str = "<") -> Any:
    """Returns what one pickle describes; the file is left at its end.

    Storages that it names are added to `storages`, empty.
    """
    stack, marks, memo = [], [], {}

    def since_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case name if name in _LITERALS:
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case name if name in _TUPLES:
                stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items = since_mark()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1][_key(key)] = value
            case "SETITEMS":
                items = since_mark()
                stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_known(argument))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_known(f"{module} {name}"))
            case "BINPERSID":
                stack.append(_storage(stack.pop(), storages, byte_order))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_built(function, arguments))
            case "BUILD":
                # The versions of the modules, which `state_dict` hangs on its dictionary.
                stack.pop()
            case "STOP":
                return stack.pop()
            case name:
                raise ValueError(f"its pickle has the instruction {name}, which no tensors need")


def _known(name: str) -> _Global:
    if name not in _KNOWN:
        raise ValueError(
            f"it names {name.replace(' ', '.')}, which could run code; only tensors are read, so "
            "save the model's state_dict() alone"
        )
    return _Global(name)


def _key(key: Any) -> str | int:
    # Others could be tuples of tuples of tuples, whose hash takes forever or has no end.
    if not isinstance(key, (str, int)):
        raise ValueError("a name of a dictionary in it is no text")
    return key


def _storage(pid, storages, byte_order):
    kind, dtype, key, _, size, *view = pid
    good = kind == "storage" and isinstance(dtype, _Global) and dtype.name in _DTYPES
    if not good or not isinstance(key, str) or type(size) is not int or size < 0 or any(view):
        raise ValueError("a storage is ill-formed")
    if key not in storages:
        dtype = np.dtype(_DTYPES[dtype.name])
        storages[key] = _Storage(dtype.newbyteorder(">") if byte_order == ">" else dtype, size)
    return storages[key]


def _built(function, arguments):
    name = function.name if isinstance(function, _Global) else None
    if name in _REBUILD:
        return _Tensor(*arguments[:4])
    if name == _REBUILD_PARAMETER:
        return arguments[0]
    if name == _ORDERED_DICT and not arguments:
        return {}
    raise ValueError("its pickle calls what no tensors need")


def _read_zip(file: BinaryIO) -> Any:
    """The format since PyTorch 1.6: a pickle and the storages as members of a zip."""
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}

        def read(name: str) -> bytes:
            # Uncompressed, as PyTorch writes them, nothing can swell to more than the file.
            if members[name].compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} in it is compressed")
            return archive.read(name)

        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it is no file of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        big = f"{root}byteorder" in members and read(f"{root}byteorder") == b"big"
        storages = {}
        content = _interpret(io.BytesIO(read(pickles[0])), storages, ">" if big else "<")
        _check_sizes(storages, file)
        for key, storage in storages.items():
            storage.content = read(f"{root}data/{key}")
    return content


def _read_legacy(file: BinaryIO) -> Any:
    """The older format: four pickles, the names of the storages, and these one after the other."""
    file.seek(0)
    if file.read(4) == b"PK\3\4":  # The beginning of a zip, whose directory is at its end.
        raise ValueError("it is truncated")
    file.seek(0)
    if _interpret(file, {}) != _LEGACY_MAGIC:
        raise ValueError("it is no file of torch.save")
    _interpret(file, {})  # the version of the format
    little = _interpret(file, {}).get("little_endian", True)
    storages = {}
    content = _interpret(file, storages, "<" if little else ">")
    _check_sizes(storages, file)
    for key in _interpret(file, {}):
        storage = storages[key]
        if int.from_bytes(file.read(8), "little" if little else "big") != storage.size:
            raise ValueError(f"storage {key} in it has another size")
        storage.content = file.read(storage.nbytes)
        if len(storage.content) < storage.nbytes:
            raise ValueError("it is truncated")
    return content


def _check_sizes(storages: dict[str, _Storage], file: BinaryIO) -> None:
    if sum(storage.nbytes for storage in storages.values()) > _size(file):
        raise ValueError("its storages claim more bytes than the file has; it may be truncated")


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
