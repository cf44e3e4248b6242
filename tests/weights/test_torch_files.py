"""Files of `torch.save`, written here without PyTorch: read exactly, and never run.

The tests that compare with PyTorch itself are in test_against_torch.py.
"""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

import keras_resnet
from keras_resnet.weights import torch_files
from keras_resnet.weights.pytorch import plain_names
from keras_resnet.weights.torch_files import read_torch
from tests.utils.zips import overlapping
from tests.weights.damages import DAMAGES

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else pickle.dumps(value)[11:-1]


def sequence(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def tensor(key, dtype, numbers, offset, size, stride, legacy=False) -> bytes:
    """The instructions that PyTorch writes for a tensor."""
    storage = [text("storage"), f"ctorch\n{STORAGES[dtype]}\n".encode(), text(key), text("cpu")]
    storage += [whole(numbers)] + ([b"N"] if legacy else [])
    shape = [sequence(*map(whole, size)), sequence(*map(whole, stride))]
    return rebuilt(sequence(*storage) + b"Q", whole(offset), *shape, b"\x89", ORDERED)


def rebuilt(*arguments: bytes) -> bytes:
    return REBUILD + sequence(*arguments) + b"R"


def strides(array):
    return [step // array.itemsize for step in array.strides]


def instructions(arrays, legacy=False) -> bytes:
    items = b"".join(
        text(name) + tensor(str(i), a.dtype.name, a.size, 0, a.shape, strides(a), legacy)
        for i, (name, a) in enumerate(arrays.items())
    )
    return b"\x80\x02" + ORDERED + b"(" + items + b"u."


def write_zip(path, pickled: bytes, storages=(), compression=zipfile.ZIP_STORED, order=b"little"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", order)
        for i, content in enumerate(storages):
            archive.writestr(f"archive/data/{i}", content)
    return path


def write_torch(path, arrays, **options):
    contents = [array.tobytes() for array in arrays.values()]
    return write_zip(path, instructions(arrays), contents, **options)


def write_legacy(path, arrays):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    parts += [instructions(arrays, legacy=True)]
    parts += [pickle.dumps([str(i) for i in range(len(arrays))], 2)]
    parts += [struct.pack("<q", a.size) + a.tobytes() for a in arrays.values()]
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {
        "conv1.weight": rng.normal(size=(4, 3, 2, 2)).astype("float32"),
        "bn1.running_var": rng.normal(size=7),
        "bn1.num_batches_tracked": np.array(5),
        "half": rng.normal(size=(2, 3)).astype("float16"),
        "brain": rng.normal(size=3).astype(ml_dtypes.bfloat16),
        "mask": np.array([True, False]),
    }


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("write", [write_torch, write_legacy])
def test_read(tmp_path, arrays, write):
    assert_same(read_torch(write(tmp_path / "weights.pth", arrays)), arrays)


def test_big_endian(tmp_path, arrays):
    swapped = {"a": np.arange(6.0).astype(">f4"), "b": np.arange(3).astype(">i8")}
    found = read_torch(write_torch(tmp_path / "big.pth", swapped, order=b"big"))
    np.testing.assert_array_equal(found["a"], np.arange(6.0))
    np.testing.assert_array_equal(found["b"], np.arange(3))


def test_views_of_one_storage(tmp_path):
    """A transposed tensor, a part of one, and one number repeated."""
    items = [
        text("transposed") + tensor("0", "float32", 6, 0, (3, 2), (1, 3)),
        text("part") + tensor("0", "float32", 6, 2, (2,), (3,)),
        text("repeated") + tensor("0", "float32", 6, 5, (2, 2), (0, 0)),
    ]
    pickled = b"\x80\x02}(" + b"".join(items) + b"u."
    values = np.arange(6, dtype="float32")
    found = read_torch(write_zip(tmp_path / "views.pt", pickled, [values.tobytes()]))
    np.testing.assert_array_equal(found["transposed"], values.reshape(2, 3).T)
    np.testing.assert_array_equal(found["part"], [2, 5])
    np.testing.assert_array_equal(found["repeated"], [[5, 5], [5, 5]])


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net"])
def test_checkpoints_and_wrappers(tmp_path, arrays, key):
    """State dicts within checkpoints of training scripts, and prefixes that wrappers add."""
    prefixed = {f"module._orig_mod.{name}": value for name, value in arrays.items()}
    inner = instructions(prefixed)[2:-1]
    pickled = b"\x80\x02}(" + text("epoch") + whole(3) + text(key) + inner + b"u."
    contents = [array.tobytes() for array in arrays.values()]
    found = read_torch(write_zip(tmp_path / "checkpoint.pth", pickled, contents))
    assert_same(plain_names(found), arrays)


class Attack:
    """An object whose pickle calls a function of Python."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def refused(path, message):
    """Expects a one-line error of the builder, which leaves no file behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ValueError, match=message) as error:
        keras_resnet.ResNet18(weights=path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "function", [builtins.eval, os.system, builtins.open], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_is_not_run(tmp_path, function, protocol, legacy):
    victim = tmp_path / "victim"
    argument = {
        builtins.eval: f"open({str(victim)!r}, 'w')",
        os.system: f"touch {victim}",
        builtins.open: str(victim),
    }[function]
    arguments = (argument, "w") if function is builtins.open else (argument,)
    pickled = pickle.dumps({"conv1.weight": Attack(function, *arguments)}, protocol)
    path = tmp_path / "attack.pth"
    if legacy:
        head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
        path.write_bytes(b"".join(head) + pickled)
    else:
        write_zip(path, pickled)
    refused(path, r"could run code|has an instruction")
    assert not victim.exists()
    # It would have been run by pickle itself.
    pickle.loads(pickled)
    assert victim.exists()


# Tuples of one tuple twice, a hundred deep: to hash the last is to hash the first 2**100 times.
TUPLES = b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(100))
STORAGE = sequence(text("storage"), b"ctorch\nFloatStorage\n", text("0"), text("cpu"), whole(4))
CONTENTS = {
    "a whole model": (
        b"ctorchvision.models.resnet\nResNet\n)R",
        "names 'torchvision.*ResNet', which",
    ),
    "a loader inside": (b"ctorch.storage\n_load_from_bytes\n)R", "could run code"),
    "a name with dots": (b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n", "could run code"),
    "by the stack": (text("os") + text("system") + b"\x93", "names 'os.system', which could run"),
    "by the registry": (b"\x82\x01", "has an instruction"),
    "an object": (b"(" + b"ccollections\nOrderedDict\n" + b"o", "has an instruction"),
    "a new object": (REBUILD + b")\x81", "has an instruction"),
    "a storage called": (b"ctorch\nFloatStorage\n)R", "calls what no tensors need"),
    "a text called": (text("eval") + b")R", "calls what no tensors need"),
    "a filled dictionary": (
        b"ccollections\nOrderedDict\n" + sequence(b"]") + b"R",
        "calls what no",
    ),
    "no tensor": (whole(5), "'conv1.weight' in it is no tensor"),
    "a list": (b"]" + whole(5) + b"a", "'conv1.weight' in it is no tensor"),
    "too large": (tensor("0", "float32", 4, 0, (5,), (1,)), "larger than its storage"),
    "past the end": (tensor("0", "float32", 4, 1, (2,), (3,)), "larger than its storage"),
    "before the start": (tensor("0", "float32", 4, -1, (2,), (1,)), "ill-formed"),
    "backwards": (tensor("0", "float32", 4, 3, (2,), (-1,)), "ill-formed"),
    "of many": (tensor("0", "float32", 4, 0, (1 << 20, 1 << 20), (0, 0)), "larger than its st"),
    "of unlike axes": (tensor("0", "float32", 4, 0, (2, 2), (1,)), "ill-formed"),
    "a size of text": (rebuilt(STORAGE + b"Q", whole(0), text("4"), text("1")), "ill"),
    "no storage": (rebuilt(text("0"), whole(0), b"))"), "ill-formed|cannot be read"),
    "of many axes": (tensor("0", "float32", 4, 0, (1,) * 9, (1,) * 9), "ill-formed"),
    "an odd storage": (
        sequence(text("module"), text("x"), text("0"), text("cpu"), whole(4)) + b"Q",
        "ill",
    ),
    "a short storage": (tensor("0", "float32", 9, 0, (9,), (1,)), "cannot be read"),
    "a missing storage": (tensor("7", "float32", 4, 0, (4,), (1,)), "cannot be read"),
    "an empty stack": (b"R", "cannot be read"),
    "no mark": (b"t", "cannot be read"),
    "an unknown memory": (b"h\x07", "cannot be read"),
    "a set": (b"\x8f(" + TUPLES + b"\x90", "has an instruction"),
    "bytes without end": (b"\x96" + struct.pack("<Q", 1 << 40), "has an instruction"),
    "a frame without end": (b"\x95" + struct.pack("<Q", 1 << 62) + b"N", "is no tensor"),
    "arguments in an array": (REBUILD + STORAGE + b"QR", "is ill-formed"),
    "a size in an array": (
        rebuilt(STORAGE + b"Q", whole(0), STORAGE + b"Q", STORAGE + b"Q"),
        "is ill-formed",
    ),
    "too few arguments": (REBUILD + b")R", "calls what no tensors need"),
    "a size without end": (
        tensor("0", "float32", 4, 0, (1,), (1,)).replace(
            whole(1) + b"t", b"\x8a\xff" + b"\x7f" * 255 + b"t"
        ),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("case", list(CONTENTS))
def test_contents_that_are_no_state_dict(tmp_path, case):
    content, message = CONTENTS[case]
    pickled = b"\x80\x02}" + text("conv1.weight") + content + b"s."
    path = write_zip(tmp_path / "odd.pth", pickled, [np.zeros(4, "float32").tobytes()])
    refused(path, message)


def test_names_that_are_no_texts(tmp_path):
    pickled = b"\x80\x02}" + TUPLES + tensor("0", "float32", 4, 0, (4,), (1,))
    for end in (b"s.", b"u."):
        part = pickled if end == b"s." else pickled.replace(b"}", b"}(", 1)
        path = write_zip(tmp_path / "hash.pth", part + end, [np.zeros(4, "float32").tobytes()])
        refused(path, "a name of a dictionary in it is no string")


def test_storages_by_names_that_are_no_texts(tmp_path, arrays):
    path = write_legacy(tmp_path / "hash.pth", arrays)
    keys = pickle.dumps([str(i) for i in range(len(arrays))], 2)
    path.write_bytes(path.read_bytes().replace(keys, b"\x80\x02]" + TUPLES + b"a."))
    refused(path, "a name of a dictionary in it is no string")


def test_a_memo_without_end(tmp_path, arrays):
    """A memo with the highest number: the file is read as without it."""
    pickled = instructions(arrays).replace(b"u.", b"ur\xff\xff\xff\x7f.")
    contents = [array.tobytes() for array in arrays.values()]
    assert_same(read_torch(write_zip(tmp_path / "memo.pth", pickled, contents)), arrays)


@pytest.mark.parametrize("name", [REBUILD, b"ctorch\nFloatStorage\n"])
def test_state_changes_nothing_that_is_shared(tmp_path, arrays, name):
    """Attributes that BUILD would set on a function or a type if it were not skipped."""
    state = b"}" + text("__defaults__") + sequence(*[b"N"] * 4) + b"s"
    odd = b"\x80\x02}" + text("odd") + name + sequence(b"N", state) + b"b" + state + b"bs."
    refused(write_zip(tmp_path / "state.pth", odd), "'odd' in it is no tensor")
    with pytest.raises(TypeError):
        torch_files._tensor()
    assert_same(read_torch(write_torch(tmp_path / "good.pth", arrays)), arrays)


def test_one_storage_for_many_tensors(tmp_path):
    items = [text(str(i)) + tensor("0", "float32", 4000, 0, (4000,), (1,)) for i in range(9)]
    pickled = b"\x80\x02}(" + b"".join(items) + b"u."
    path = write_zip(tmp_path / "shared.pth", pickled, [bytes(16000)])
    refused(path, "its tensors share their numbers, and would be more than the file has")


@pytest.mark.parametrize(
    "content", [b"}", b"]", b"(" * 100_000 + b"t" * 100_000], ids=["empty", "list", "nested"]
)
def test_no_state_dict(tmp_path, content):
    path = write_zip(tmp_path / "none.pth", b"\x80\x02" + content + b".")
    refused(path, "it holds no state dict")


def test_compressed_members(tmp_path, arrays):
    path = write_torch(tmp_path / "bomb.pth", arrays, compression=zipfile.ZIP_DEFLATED)
    refused(path, "is compressed")


def test_overlapping_members(tmp_path, arrays):
    path = write_torch(tmp_path / "bomb.pth", arrays)
    path.write_bytes(overlapping(path.read_bytes(), [f"archive/data/9{i}" for i in range(40)]))
    refused(path, "cannot be read")


def test_pickles_of_more_objects_than_tensors_need(tmp_path, arrays, monkeypatch):
    """Each byte of which would become a dictionary."""
    monkeypatch.setattr(torch_files, "_LONGEST_PICKLE", 10_000)
    pickled = b"\x80\x02" + b"}" * 10_000
    path = write_zip(tmp_path / "objects.pth", pickled)
    refused(path, "its pickle has more than")
    write_legacy(path, arrays)
    path.write_bytes(path.read_bytes().replace(instructions(arrays, legacy=True), pickled))
    refused(path, "cannot be read")


UNREADABLE = r"^`weights` must be a whole file written by PyTorch\. Received: .*cannot be read"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("write", [write_torch, write_legacy])
def test_damaged_files(tmp_path, arrays, write, damage):
    path = write(tmp_path / "damaged.pth", arrays)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    refused(path, UNREADABLE)


def test_another_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("config.json", "{}")
    refused(tmp_path / "other.pth", UNREADABLE)


@pytest.mark.parametrize("write", [write_torch, write_legacy])
def test_truncated_files_are_called_so(tmp_path, arrays, write):
    path = write(tmp_path / "damaged.pth", arrays)
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, r"cannot be read \(it is truncated\)$")


def test_numbers_overwritten_in_place(tmp_path, arrays):
    path = write_torch(tmp_path / "damaged.pth", arrays)
    content = path.read_bytes()
    value = arrays["conv1.weight"].tobytes()
    path.write_bytes(content.replace(value, bytes(len(value))))
    refused(path, "cannot be read")
