"""Damages files: bytes of any format, and the structure of those that contain others.

Everything is drawn from one `random.Random`, so a seed gives the same file again.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import struct
import tarfile
import warnings
import zipfile
import zlib

import h5py

# Numbers at which lengths, offsets and shapes turn.
_EDGES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 20, 1 << 30, (1 << 31) - 1, 1 << 31)
_EDGES += ((1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
# What a small archive swells to; the workers' limits on time and memory hold for it.
_SWOLLEN = 300 << 20
TEXTS = ("", "\0", "é", "\udcff", "x" * 300, "a\nb", "\x1b[31mred\x1b[0m")
TEXTS += ("../../up", "/etc/passwd")


def forge(data: bytes, rng: random.Random, name: str) -> bytes:
    """Returns a file with another content, whose checksums may hold; `name` says its format.

    A format without a structure known here is damaged.
    """
    special = next((kind for ending, kind in _KINDS.items() if name.endswith(ending)), None)
    # What is forged a second time, or is another format by content, may have no structure.
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile, tarfile.TarError):
        if special and rng.random() < 0.9:
            return special(data, rng)
    return damage(data, rng)


def damage(data: bytes, rng: random.Random) -> bytes:
    """Returns a file with bytes changed, as disks, cables and editors do."""
    # Headers are at the beginning, directories at the end.
    first, last = rng.choice(
        ((0, len(data)), (0, len(data)), (0, 400), (len(data) - 400, len(data)))
    )
    first = max(0, first)
    part = data[first:last]
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        part = rng.choice(_BYTES)(part, rng)
    return data[:first] + part + data[last:]


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _splice(data: bytes, rng: random.Random) -> bytes:
    """Copies a piece over, into, or out of another place."""
    start, place = (rng.randrange(len(data) + 1) for _ in range(2))
    piece = data[start : start + rng.choice((1, 4, 16, 256, 4096))]
    removed = rng.choice((0, len(piece), 2 * len(piece)))
    return data[:place] + piece * rng.choice((0, 1, 1, 2)) + data[place + removed :]


def _number(data: bytes, rng: random.Random) -> bytes:
    """Replaces an integer of 1, 2, 4 or 8 bytes in either order."""
    size = rng.choice((1, 2, 4, 8))
    place = rng.randrange(max(1, len(data) - size))
    order = rng.choice(("little", "big"))
    old = int.from_bytes(data[place : place + size], order)
    new = rng.choice((*_EDGES, old + 1, old - 1, 2 * old)) % (1 << 8 * size)
    return data[:place] + new.to_bytes(size, order) + data[place + size :]


def _digits(data: bytes, rng: random.Random) -> bytes:
    """Replaces a decimal number in a text, such as a size in a header."""
    places = [i for i, byte in enumerate(data[: 1 << 16]) if 48 <= byte < 58]
    if not places:
        return _flip(data, rng)
    place = rng.choice(places)
    return data[:place] + str(rng.choice((-1, *_EDGES))).encode() + data[place + 1 :]


_BYTES = (_flip, _flip, _truncate, _splice, _number, _number, _digits)


def zipped(members: list[tuple[str, bytes, int]]) -> bytes:
    """Returns an archive of (name, content, compression)."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # Two members may have one name.
        for name, content, compression in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def _zip(data: bytes, rng: random.Random) -> bytes:
    """Damages an archive whose checksums hold: its members, their names, its directory."""
    begin = data.find(b"PK\3\4") if not data.startswith(b"PK") else 0
    prefix, data = data[:begin], data[begin:]  # a .tflite lies in front of its archive
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(m.filename, archive.read(m), m.compress_type) for m in archive.infolist()]
    index = rng.randrange(len(members))
    name, content, compression = members[index]
    kind = rng.choice(
        ("content",) * 4 + ("swell", "deflate", "drop", "rename", "double", "overlap")
    )
    if kind == "content":
        members[index] = (name, forge(content, rng, name), compression)
    elif kind == "swell":
        swollen = bytes(rng.randrange(_SWOLLEN))
        members[index] = (name, content + swollen, zipfile.ZIP_DEFLATED)
    elif kind == "deflate":
        members[index] = (name, content, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)))
    elif kind == "drop":
        del members[index]
    elif kind == "rename":
        members[index] = (rng.choice(TEXTS).replace("\udcff", "?") or "x", content, compression)
    elif kind == "double":
        members.append((name, forge(content, rng, name), compression))
    else:
        folder = rng.choice(("assets/", "", name.rpartition("/")[0] + "/"))
        names = [f"{folder}{number}{name[-4:]}" for number in range(rng.choice((3, 200)))]
        return prefix + overlapping(zipped(members), names)
    return prefix + zipped(members)


def overlapping(data: bytes, names: list[str]) -> bytes:
    """Adds members to an archive that lie in each other and share the bytes of the last one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        place, count = archive.start_dir, len(archive.infolist())
    entries, added, content = data[place:-22], b"", bytes(1 << 20)
    lengths = [30 + len(name) for name in names]
    for index, name in reversed([*enumerate(names)]):
        told = struct.pack("<HHHIII", 0, 0, 33, zlib.crc32(content), len(content), len(content))
        content = (
            b"PK\3\4\24\0\0\0" + told + struct.pack("<HH", len(name), 0) + name.encode() + content
        )
        offset = place + sum(lengths[:index])
        more = struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, offset)
        added = b"PK\1\2\24\0\24\0\0\0" + told + more + name.encode() + added
    count += len(names)
    sizes = struct.pack("<HHIIH", count, count, len(entries + added), place + len(content), 0)
    return data[:place] + content + entries + added + b"PK\5\6" + bytes(4) + sizes


def _npy(data: bytes, rng: random.Random) -> bytes:
    """Changes the header of an array: its shape, order or type."""
    length = struct.unpack("<H", data[8:10])[0]
    header = data[10 : 10 + length].decode("latin1")
    dtype, huge = rng.choice(("|O", "<f8", "|V9", "<U900", "[('a','<f4')]")), rng.choice(_EDGES)
    changed = rng.choice(
        (
            header.replace("'shape': (", f"'shape': ({huge}, "),
            header.replace("<f4", dtype),
            header.replace("False", "True"),
            "{" * rng.choice((10, 1000, 60000)),
            header.replace("}", ", 'x': " + "(" * rng.choice((50, 5000)) + "}"),
        )
    ).rstrip()
    changed = changed.ljust(length - 1)[:65534].encode("latin1") + b"\n"
    return data[:8] + struct.pack("<H", len(changed)) + changed + data[10 + length :]


def _json(data: bytes, rng: random.Random) -> bytes:
    """Replaces a value somewhere in a JSON text, or nests it deeply."""
    tree = [json.loads(data)]
    node: object = tree
    key: object = 0
    while isinstance(inner := node[key], (dict, list)) and inner and rng.random() < 0.85:
        node, key = inner, rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
    deep, wide = rng.choice((50, 2000, 200_000)), rng.choice(_EDGES)
    node[key] = rng.choice(
        (None, [], {}, "", -1, 1.5, True, wide, -wide, float("nan"), rng.choice(TEXTS), "DEEP")
    )
    text = json.dumps(tree[0])
    return text.replace('"DEEP"', rng.choice(("[", '{"a":')) * deep).encode()


def _lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    index = rng.randrange(len(lines))
    lines[index] = _json(lines[index], rng)
    return b"\n".join(lines)


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = _json(data[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _tar(data: bytes, rng: random.Random) -> bytes:
    """Damages an archive of a module inside its compression, or adds a hostile entry."""
    inner = gzip.decompress(data)
    kind = rng.randrange(4)
    if kind == 0:
        inner = damage(inner, rng)
    elif kind == 1:
        inner = inner.rstrip(b"\0") + bytes(rng.randrange(_SWOLLEN))
    else:
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(inner)) as old,
            tarfile.open(fileobj=out, mode="w") as new,
        ):
            for member in old:
                content = old.extractfile(member) if member.isfile() else None
                if kind == 2 and content and rng.random() < 0.3:
                    changed = forge(content.read(), rng, member.name)
                    member.size, content = len(changed), io.BytesIO(changed)
                new.addfile(member, content)
            if kind == 3:
                new.addfile(_entry(rng))
        inner = out.getvalue()
    return gzip.compress(inner, 1, mtime=0)


def _entry(rng: random.Random) -> tarfile.TarInfo:
    name = rng.choice(("../up", "/tmp/absolute", "assets/../../up", "a\\b", "c:d", "x" * 5000))
    entry = tarfile.TarInfo(name)
    entry.type = rng.choice(
        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, b"S")
    )
    entry.linkname = rng.choice(("/etc/passwd", "../../up", "assets", "\x1b[31m"))
    return entry


def _h5(data: bytes, rng: random.Random) -> bytes:
    """Changes a data set or a name in an HDF5 file, which has no checksums."""
    file = io.BytesIO(data)
    with h5py.File(file, "a") as h5:
        items: list[h5py.Dataset | h5py.Group] = []
        h5.visititems(lambda _, item: items.append(item))
        item, kind = rng.choice(items), rng.randrange(8)
        parent, name = item.parent, item.name.rpartition("/")[2]
        if kind == 0:
            key = rng.choice([*item.attrs, "name"])
            item.attrs[key] = rng.choice(("", "x" * 60_000, 3, [b"a"] * 900, "\x1b[31m", 1.5))
        elif kind == 1:
            parent[f"{name}x"] = item  # a second name for one thing
        else:
            del parent[name]
        if kind == 2:
            parent[name] = h5py.SoftLink(rng.choice(("/", "/vars", "/nowhere", parent.name)))
        elif kind == 3:
            parent[name] = h5py.ExternalLink("/etc/passwd", "/")
        elif kind == 4:  # chunks that are missing read as zeros
            parent.create_dataset(name, (rng.choice((9, 1 << 20, 1 << 40)),), chunks=(1,))
        elif kind == 5:
            swollen = rng.randrange(_SWOLLEN // 4)
            parent.create_dataset(name, (swollen,), "u1", chunks=True, compression=9, fillvalue=0)
        elif kind == 6:
            parent.create_dataset(name, data=rng.choice(("text", [b"a", b"b"], 1j, [])))
    return file.getvalue()


def _png(data: bytes, rng: random.Random) -> bytes:
    """Changes a chunk whose checksum then holds: sides, depth, palette, or compressed pixels."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    index = 0 if rng.random() < 0.5 else rng.randrange(len(chunks))
    kind, content = chunks[index]
    if kind == b"IDAT" and rng.random() < 0.5:
        content = zlib.compress(damage(zlib.decompress(content), rng))
    elif kind == b"IHDR" and rng.random() < 0.3:  # megapixels that compress to nothing
        side = rng.choice((2000, 20_000))
        content = struct.pack(">IIBB", side, side, 1, 0) + content[10:]
        pixels = zlib.compress(bytes((side // 8 + 1) * side), 9)
        chunks = [(k, pixels if k == b"IDAT" else c) for k, c in chunks]
    else:
        content = damage(content, rng)
    chunks[index] = (kind, content)
    out = data[:8]
    for kind, content in chunks:
        body = kind + content
        out += len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return out


_KINDS = {
    **dict.fromkeys((".keras", ".npz", ".pth", ".tflite"), _zip),
    **{".npy": _npy, ".jsonl": _lines, ".json": _json, ".safetensors": _safetensors},
    **{".tar.gz": _tar, ".h5": _h5, ".png": _png},
}
