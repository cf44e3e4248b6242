"""Archives whose members would take more than the file shows, or are not what they claim."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from keras_resnet.utils.archives import open_archive, read_array
from tests.utils.zips import joined, overlapping, split, zipped

MEMBERS = {"a/x.bin": bytes(range(256)), "empty": b"", "ä.txt": b"text"}
WHOLE = zipped(MEMBERS)


def read(data: bytes) -> dict[str, bytes]:
    with open_archive(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def renamed(name: str) -> bytes:
    return zipped({**MEMBERS, name: b"x"})


def twice() -> bytes:
    begin, directory = split(WHOLE)
    return joined(begin, directory * 2, 6)


def encrypted() -> bytes:
    begin, directory = split(WHOLE)
    return joined(begin, directory[:8] + b"\1" + directory[9:], 3)


def claiming(size: int, compressed: int) -> bytes:
    """An archive whose one member has other sizes in the directory."""
    begin, directory = split(zipped({"a": bytes(100)}))
    sizes = struct.pack("<II", compressed, size)
    return joined(begin, directory[:20] + sizes + directory[28:], 1)


def crowded() -> bytes:
    begin, directory = split(zipped({"a": b""}))
    return joined(begin, directory * 100_000, 100_000)


def test_whole_archives_are_read():
    assert read(WHOLE) == MEMBERS
    # Behind something else, and with a header in 64 bits, as NumPy and PyTorch write them.
    assert read(b"in front" + WHOLE) == MEMBERS
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("x", "w", force_zip64=True) as file:
        file.write(b"text")
    assert read(out.getvalue()) == {"x": b"text"}
    begin, directory = split(WHOLE)
    end = len(begin + directory)
    about = (b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, len(directory), len(begin))
    record = struct.pack("<4sQ2H2I4Q", *about) + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    sizes = (b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert read(begin + directory + record + struct.pack("<4s4H2IH", *sizes)) == MEMBERS


HOSTILE = {
    "deflated": lambda: zipped({"a": bytes(1 << 20)}, zipfile.ZIP_DEFLATED),
    "overlapping": lambda: overlapping(WHOLE, [f"assets/{i}" for i in range(50)]),
    "of one name": twice,
    "encrypted": encrypted,
    "longer than the file": lambda: claiming(1 << 31, 1 << 31),
    "longer than stored": lambda: claiming(1 << 31, 100),
    "shorter than stored": lambda: claiming(10, 100),  # zipfile verifies no checksum of it
    "crowded": crowded,
    "parent": lambda: renamed("../up"),
    "absolute": lambda: renamed("/tmp/up"),
    "drive": lambda: renamed("C:up"),
    "backslashes": lambda: renamed("a\\..\\..\\up"),
    "no archive": lambda: b"PK\3\4" + bytes(100),
    "empty": bytes,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused_before_a_member_is_read(kind):
    data = HOSTILE[kind]()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"\w"), open_archive(io.BytesIO(data)):
        pass
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 2 * len(data) + (1 << 20)


def test_the_overlapping_one_would_swell():
    data = HOSTILE["overlapping"]()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert sum(member.file_size for member in archive.infolist()) > 40 * len(data)


def test_every_damage_is_noticed():
    """Any byte that is altered or cut off either changes nothing that is read, or is noticed."""
    damaged = [WHOLE[:length] for length in range(len(WHOLE))]
    for position in range(8 * len(WHOLE)):
        changed = bytearray(WHOLE)
        changed[position // 8] ^= 1 << position % 8
        damaged.append(bytes(changed))
    noticed = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in damaged:
            try:
                # The names are in no checksum.
                assert sorted(read(data).values()) == sorted(MEMBERS.values())
            except ValueError:
                noticed += 1
    assert noticed > len(damaged) / 2


def saved(array, **options) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asanyarray(array), **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="float32").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.int64(7),
        np.zeros((0, 2), ">f2"),
        np.array([True, False]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_are_read(array):
    again = read_array(saved(array))
    np.testing.assert_array_equal(again, array)
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.flags.writeable and again.flags.f_contiguous == array.flags.f_contiguous


def claimed(shape: str, descr: str = "<f4", content: bytes = bytes(16)) -> bytes:
    """An array whose header says what it likes."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        saved(np.zeros(4))[:-1],
        saved(np.zeros(4)) + b"\0",
        claimed("(274877906944,)"),  # a tebibyte
        claimed("(65536, 65536, 65536, 65536)"),  # which is 0 modulo 2 ** 64
        claimed("(-1, -4)"),
        claimed("(4,)", "|O"),
        claimed("(4,)", "|V4"),
        claimed("(1,)", "<U4"),
        claimed("(99999999999,)", "|V0", b""),
        claimed("(4, " * 50 + ")" * 50),
        claimed("(" + "1, " * 20_000 + ")"),
        saved(np.zeros(4), version=(2, 0)),
    ],
    ids=range(14),
)
def test_what_claims_to_be_an_array(content):
    tracemalloc.start()
    with pytest.raises((ValueError, SyntaxError)):
        read_array(content)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 1 << 20
