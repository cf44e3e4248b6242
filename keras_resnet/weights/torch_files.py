"""State dicts from files of PyTorch and to them, without PyTorch and without executing code.

A `.pth` file is a pickle, which can have Python call any of its functions. The unpickler here is
the standard library's with an allow-list: names stand for a few functions of this module, never for
Python's own, and instructions that no state dict needs are refused. What is written has few of
them, and is read by `torch.load(path, weights_only=True)`.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import ml_dtypes
import numpy as np

from keras_resnet.utils import private
from keras_resnet.utils.archives import open_archive

# First number in a file older than PyTorch 1.6.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Keys of the state dict in checkpoints of training scripts.
_KEYS = ("state_dict", "model_state_dict", "model", "net")
# More would let the product of the sizes grow without bound.
_MOST_AXES = 8
# Name, in the zip, of what this package tells of the network; PyTorch skips it.
_NETWORK = "keras_resnet.network"
# Bytes; each can become an object of a hundred. A state dict needs some 200 for a tensor.
_LONGEST_PICKLE = 1 << 21


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict, also within a checkpoint, that `torch.save` wrote in either format.

    Anything but tensors, numbers and strings, in lists and dictionaries, raises a ValueError; a
    damaged file raises whatever the libraries raise.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = (_read_zip if zipfile.is_zipfile(file) else _read_legacy)(file, size)
    for key in _KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError("it holds no state dict")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise ValueError(f"{name!r} in it is no tensor; save the model's state_dict() alone")
    if sum(tensor.nbytes for tensor in content.values()) > size:
        raise ValueError("its tensors share their numbers, and would be more than the file has")
    return {name: tensor.copy() for name, tensor in content.items()}


def read_torch_network(path: str | Path) -> str | None:
    """Returns what `write_torch` was told of the network, or None for files of others."""
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            return None
        with open_archive(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/{_NETWORK}")]
            return archive.read(names[0]).decode() if names else None


def write_torch(state: Mapping[str, np.ndarray], path: str | Path, network: str | None) -> None:
    """Writes a state dict as `torch.save` does since PyTorch 1.6.

    Args:
        state: Arrays of float32 or int64 by name.
        path: The file; it is not written atomically.
        network: What `read_torch_network` is to return.
    """
    arrays = {name: np.asarray(array) for name, array in state.items()}
    with zipfile.ZipFile(path, "w") as archive:

        def write(name: str, content: bytes | str) -> None:
            # Not the time of writing, so that the same weights are the same file.
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)

        write("data.pkl", _pickled(arrays))
        write("byteorder", "little")
        write("version", "3\n")
        if network is not None:
            write(_NETWORK, network)
        for i, array in enumerate(arrays.values()):
            write(f"data/{i}", array.astype(array.dtype.newbyteorder("<")).tobytes())


def _pickled(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the pickle of a dictionary of tensors, each with a storage of its own."""
    items = (_text(name) + _pickled_tensor(i, arrays[name]) for i, name in enumerate(arrays))
    content = [pickle.PROTO, b"\x02", _EMPTY, pickle.MARK, *items, pickle.SETITEMS, pickle.STOP]
    return b"".join(content)


def _pickled_tensor(key: int, array: np.ndarray) -> bytes:
    """Returns the call of the function that makes the tensor of a storage."""
    kind = {"float32": "FloatStorage", "int64": "LongStorage"}[array.dtype.name]
    storage = _sequence(
        *(_text("storage"), _name("torch", kind), _text(str(key)), _text("cpu"), _whole(array.size))
    )
    strides = (math.prod(array.shape[i + 1 :]) for i in range(array.ndim))
    arguments = _sequence(
        *(storage + pickle.BINPERSID, _whole(0), _sequence(*map(_whole, array.shape))),
        *(_sequence(*map(_whole, strides)), pickle.NEWFALSE, _EMPTY),
    )
    return _name("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _whole(value: int) -> bytes:
    if value < 1 << 31:
        return pickle.BININT + struct.pack("<i", value)
    return pickle.LONG1 + b"\x08" + struct.pack("<q", value)


def _sequence(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


_EMPTY = _name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def _tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
    """Returns a view of a storage: `size[i]` elements along axis i, `stride[i]` apart."""
    good = isinstance(storage, np.ndarray) and len(size) == len(stride) <= _MOST_AXES
    numbers = (offset, *_tuple(size), *_tuple(stride))
    if not good or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a tensor is ill-formed")
    elements = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if elements > storage.size or (elements and last >= storage.size):
        raise ValueError("a tensor is larger than its storage")
    steps = [step * storage.itemsize for step in stride]
    return np.ndarray(size, storage.dtype, storage, offset * storage.itemsize, steps)


def _tuple(value: Any) -> tuple:
    """Returns a tuple; an array would unpack into objects of many times its size."""
    if type(value) is not tuple:
        raise ValueError("its pickle is ill-formed")
    return value


# The names that a file may contain: types of storages, and all the functions that it can call.
_KINDS = {"Double": "f8", "Float": "f4", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2"}
_KINDS |= {"Char": "i1", "Byte": "u1", "Bool": "?", "BFloat16": ml_dtypes.bfloat16}
_ALLOWED = {
    **{f"torch.{kind}Storage": np.dtype(dtype) for kind, dtype in _KINDS.items()},
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "collections.OrderedDict": lambda: {},
}
# Instructions that the standard library handles.
_STANDARD = """
    PROTO MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE
    SHORT_BINUNICODE BINSTRING SHORT_BINSTRING EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2
    TUPLE3 APPEND APPENDS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL
    BINPERSID
"""
_CODES = [getattr(pickle, name)[0] for name in _STANDARD.split()]


class _Unpickler(private.PythonUnpickler):
    """Reads one pickle; `storages` are those that it names, zeros to be filled from the file.

    It is the unpickler in Python, since with the one in C a hundred bytes can take hours and
    gigabytes: it hashes tuples of tuples, and makes a memo of any length.
    """

    def __init__(self, file: BinaryIO, size: int = 0, byte_order: str = "<"):
        super().__init__(file, fix_imports=False, encoding="latin1")
        self.storages: dict[str, np.ndarray] = {}
        self._left, self._byte_order = size, byte_order

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in _ALLOWED:
            raise ValueError(
                f"it names {full!r}, which could run code; only tensors are read, so save the "
                "model's state_dict() alone"
            )
        return _ALLOWED[full]

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, size, *view = _tuple(pid)
        good = kind == "storage" and isinstance(dtype, np.dtype) and type(key) is str
        if not good or type(size) is not int or size < 0 or any(view):
            raise ValueError("a storage is ill-formed")
        if key not in self.storages:
            self._left -= size * dtype.itemsize
            if self._left < 0:
                raise ValueError(
                    "its storages claim more bytes than the file has; it may be truncated"
                )
            self.storages[key] = np.zeros(size, dtype.newbyteorder(self._byte_order))
        return self.storages[key]

    def _call(self: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        try:
            self.append(function(*_tuple(arguments)))
        except TypeError as error:
            raise ValueError("its pickle calls what no tensors need") from error

    def _set(self: Any, items: list) -> None:
        self.stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _refuse(self: Any) -> None:
        raise ValueError("its pickle has an instruction that no tensors need")

    dispatch: ClassVar[dict[int, Any]] = {
        **dict.fromkeys(range(256), _refuse),
        **{code: private.PythonUnpickler.dispatch[code] for code in _CODES},
        pickle.FRAME[0]: lambda self: self.read(8),
        pickle.SETITEM[0]: lambda self: self._set([self.stack.pop(), self.stack.pop()][::-1]),
        pickle.SETITEMS[0]: lambda self: self._set(self.pop_mark()),
        pickle.REDUCE[0]: _call,
        # The versions of the modules, an attribute of the dictionary, are skipped.
        pickle.BUILD[0]: lambda self: self.stack.pop(),
    }


def _key(key: Any) -> str | int:
    # Others could be tuples of tuples of tuples, whose hash takes forever.
    if type(key) not in (str, int):
        raise ValueError("a name of a dictionary in it is no string")
    return key


def _fill(storage: np.ndarray, content: bytes) -> None:
    if len(content) != storage.nbytes:
        raise ValueError("it is truncated")
    storage.view(np.uint8)[:] = np.frombuffer(content, np.uint8)


def _read_zip(file: BinaryIO, size: int) -> Any:
    """Reads the format since PyTorch 1.6: a pickle and the storages as members of a zip."""
    with open_archive(file) as archive:
        members, read = archive.namelist(), archive.read
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it is no file of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        big = f"{root}byteorder" in members and read(f"{root}byteorder") == b"big"
        if archive.getinfo(pickles[0]).file_size > _LONGEST_PICKLE:
            raise ValueError(f"its pickle has more than {_LONGEST_PICKLE:,} bytes")
        unpickler = _Unpickler(io.BytesIO(read(pickles[0])), size, ">" if big else "<")
        content = unpickler.load()
        for key, storage in unpickler.storages.items():
            _fill(storage, read(f"{root}data/{key}"))
    return content


def _read_legacy(file: BinaryIO, size: int) -> Any:
    """Reads the older format: four pickles, the names of the storages, and these in a row."""
    file.seek(0)
    if file.read(4) == b"PK\3\4":  # The beginning of a zip, whose directory is at its end.
        raise ValueError("it is truncated")
    file.seek(0)
    pickles = io.BytesIO(file.read(_LONGEST_PICKLE))
    if _Unpickler(pickles).load() != _LEGACY_MAGIC:
        raise ValueError("it is no file of torch.save")
    _Unpickler(pickles).load()  # the version of the format
    little = _Unpickler(pickles).load().get("little_endian", True)
    unpickler = _Unpickler(pickles, size, "<" if little else ">")
    content = unpickler.load()
    keys = _Unpickler(pickles).load()
    file.seek(pickles.tell())
    for key in keys:
        storage = unpickler.storages.pop(str(_key(key)))
        if int.from_bytes(file.read(8), "little" if little else "big") != storage.size:
            raise ValueError(f"storage {key} in it has another size")
        _fill(storage, file.read(storage.nbytes))
    if unpickler.storages:
        raise ValueError("it lacks a storage")
    return content
