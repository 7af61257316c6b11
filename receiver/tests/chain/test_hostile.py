# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers that somebody has damaged, by chance or on purpose: one clear error, and nothing else is touched."""

from __future__ import annotations

import random
import resource
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from livebackup_receiver.chain import flat
from livebackup_receiver.chain.copying import Copier
from livebackup_receiver.chain.image import COMPRESSED, open_image
from livebackup_receiver.chain.merge import Parent, merge, open_layers
from livebackup_receiver.chain.preamble import backing_name
from livebackup_receiver.chain.punch import punch
from livebackup_receiver.errors import LayerDamaged, LayerUnsupported, ManifestInvalid, ReceiverError
from livebackup_receiver.restore import check_layers
from livebackup_receiver.store.ancestry import ancestry
from livebackup_receiver.store.paths import DiskDirectory

MEMORY_BYTES = 1 << 30
FIRST, SECOND, THIRD = (f"01JD00000000000000000000{number}" + "A" for number in range(1, 4))


def make(directory: Path) -> list[Path]:
    """Three small layers."""
    paths = [directory / f"{point}.qcow2" for point in (FIRST, SECOND, THIRD)]
    for number, path in enumerate(paths):
        backing = ["-b", paths[number - 1].name, "-F", "qcow2"] if number else []
        qemu("qemu-img", "create", "-q", "-f", "qcow2", *backing, path, "4M")
        qemu("qemu-io", "-c", f"write -P {number + 1} {number * 64}k 256k", path)
    return paths


def qemu(*argv: object) -> None:
    subprocess.run([str(each) for each in argv], check=True, capture_output=True, timeout=30)


@contextmanager
def little_memory() -> Iterator[None]:
    """Whoever believes an absurd size runs out of memory in here."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def patch(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def require_refused(paths: list[Path], hostile: Path, kind: type[ReceiverError] = LayerDamaged) -> None:
    """Whatever is done with the chain ends in an error that names the file, and nothing changes."""
    before = {path.name: path.read_bytes() for path in paths}
    target = paths[-1].with_suffix(".tmp")
    with little_memory():
        with pytest.raises(kind) as merged:
            merge(paths[1:], target, parent=Parent(paths[0].name, 4 << 20), copier=Copier(share=False))
        with pytest.raises(kind) as read, open_layers(paths) as layers:
            list(flat.extents(layers))
        with pytest.raises(kind):
            punch(paths[1], [paths[2]])
    assert {caught.value.path for caught in (merged, read)} == {str(hostile)}  # type: ignore[attr-defined]
    assert {path.name: path.read_bytes() for path in paths} == before
    assert not target.exists()


HEADERS = {
    "another magic": (0, b"QFI\xfc"),
    "a cluster of 2 to the 60": (20, struct.pack(">I", 60)),
    "a disk of 16 EiB": (24, b"\xff" * 8),
    "an L1 table of 4 billion": (36, b"\xff" * 4),
    "an L1 table behind the end": (40, struct.pack(">Q", 1 << 40)),
    "an L1 table that is not aligned": (40, struct.pack(">Q", 0x30008)),
    "an external data file": (72, struct.pack(">Q", 4)),
    "dirty": (72, struct.pack(">Q", 1)),
    "corrupt": (72, struct.pack(">Q", 2)),
    "a header of 4 GiB": (100, b"\xff" * 4),
    "a name of 4 GiB": (16, b"\xff" * 4),
}


@pytest.mark.parametrize("what", HEADERS)
def test_an_absurd_header(tmp_path: Path, what: str) -> None:
    paths = make(tmp_path)
    patch(paths[1], *HEADERS[what])
    require_refused(paths, paths[1])


def test_features_of_the_future_are_left_to_qemu(tmp_path: Path) -> None:
    paths = make(tmp_path)
    patch(paths[1], 72, struct.pack(">Q", 1 << 20))
    require_refused(paths, paths[1], LayerUnsupported)


@pytest.mark.parametrize("name", [b"/etc/passwd", b"../../secret", b"json:{}", b"nbd://host/x", b"a\0b"])
def test_a_parent_elsewhere_is_never_opened(tmp_path: Path, name: bytes) -> None:
    paths = make(tmp_path)
    at = struct.unpack(">Q", paths[1].read_bytes()[8:16])[0]
    patch(paths[1], at, name)
    patch(paths[1], 16, struct.pack(">I", len(name)))
    require_refused(paths, paths[1])
    with pytest.raises(LayerDamaged, match=f"{SECOND}.qcow2"):
        check_layers(paths[::-1])


def test_a_layer_that_lies_on_itself_is_no_chain(tmp_path: Path) -> None:
    paths = make(tmp_path)
    at = struct.unpack(">Q", paths[1].read_bytes()[8:16])[0]
    patch(paths[1], at, paths[1].name.encode())
    assert backing_name(paths[1]) == paths[1].name
    with pytest.raises(LayerDamaged, match=f"{SECOND}.qcow2"):
        check_layers(paths[::-1])


def test_manifests_that_lead_back_to_themselves_end(tmp_path: Path) -> None:
    directory = DiskDirectory(tmp_path)
    for point, parent in ((FIRST, THIRD), (SECOND, FIRST), (THIRD, SECOND)):
        directory.manifest(point).write_text(f'{{"parent": "{parent}"}}')
    with pytest.raises(ManifestInvalid, match="leads back to itself"):
        ancestry(directory, THIRD)


def test_two_tables_in_one_place_do_not_multiply_the_work(tmp_path: Path) -> None:
    path = tmp_path / "layer.qcow2"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", path, "16T")
    qemu("qemu-io", "-c", "write 0 64k", path)
    with open_image(path) as image:
        l1_offset, table = image.header.l1_table_offset, int(image.l1[0]) | 1 << 63
    patch(path, l1_offset, struct.pack(">Q", table) * 32768)
    with pytest.raises(LayerDamaged, match="share an L2 table"), open_image(path):
        pass


@pytest.mark.parametrize("tail", [b"", b"garbage up to the end of the sector"])
def test_a_cluster_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path, tail: bytes) -> None:
    """A few kilobytes of zstd can say "four gigabytes of zeros"."""
    packed = compressed_layer(tmp_path, _zeros(3 << 30) + tail)
    with little_memory(), open_image(packed) as image:
        (bomb,) = flat.extents([image])
        with pytest.raises(LayerDamaged, match=r"layer\.qcow2.*another length"):
            bomb.read_into(memoryview(bytearray(bomb.length)), 0)


def test_a_packed_cluster_may_be_followed_by_anything(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3000).ljust(1 << 16, b"\1")
    packed = compressed_layer(tmp_path, zstandard.ZstdCompressor().compress(content) + b"garbage")
    with open_image(packed) as image:
        (extent,) = flat.extents([image])
        read = memoryview(bytearray(extent.length))
        extent.read_into(read, 0)
    assert read == content


def compressed_layer(directory: Path, packed: bytes) -> Path:
    """A layer with one cluster, whose compressed content is this."""
    path = directory / "layer.qcow2"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compression_type=zstd", path, "4M")
    qemu("qemu-io", "-c", "write -c -P 1 0 64k", path)
    end = path.stat().st_size
    with open_image(path) as image:
        table = int(image.l1[0])
    sectors = -(-len(packed) // 512) - 1
    patch(path, end, packed.ljust((sectors + 1) * 512, b"\0"))
    patch(path, table, struct.pack(">Q", int(COMPRESSED) | sectors << 54 | end))
    return path


def _zeros(length: int) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    step = bytes(1 << 24)
    return b"".join(compressor.compress(step) for dummy in range(length // len(step))) + compressor.flush()


def test_random_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    """Thousands of random changes of tables: an error of ours, or a result; never another exception."""
    paths = make(tmp_path)
    sound = paths[1].read_bytes()
    target = tmp_path / "merged"
    refused = 0
    for seed in range(1500):
        chance = random.Random(seed)
        content = bytearray(sound)
        for dummy in range(chance.randint(1, 8)):
            # the header, the refcount table and blocks, the L1 table, or an L2 table
            place = chance.choice([chance.randrange(600), chance.randrange(0x10000, 0x50000)])
            content[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        paths[1].write_bytes(content[: chance.choice([len(content)] * 5 + [chance.randrange(len(content))])])
        try:
            with little_memory():
                merge(paths[1:], target, parent=Parent(paths[0].name, 4 << 20), copier=Copier(share=False))
        except (LayerDamaged, LayerUnsupported):
            refused += 1
        finally:
            target.unlink(missing_ok=True)
    assert refused > 100
