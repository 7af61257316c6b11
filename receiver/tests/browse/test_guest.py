# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real file systems, sound and hostile ones, seen through one real guest."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import guest_disks
import pytest
import pytest_asyncio
from guest_disks import BIDI, MANY, MIB, NEWLINE, ODD, SCRIPT, SPARSE_BYTES
from sample_store import SampleStore

from livebackup_receiver.browse.entries import FileKind, FileSystem
from livebackup_receiver.browse.guest import Guest
from livebackup_receiver.browse.names import shown
from livebackup_receiver.browse.opening import open_guest
from livebackup_receiver.catalog.engine import open_catalog
from livebackup_receiver.config import Config
from livebackup_receiver.errors import (
    GuestFileUnknown,
    GuestFileUnreadable,
    GuestFileUnsuitable,
    ReceiverError,
)
from livebackup_receiver.exports import find_wanted
from livebackup_receiver.store.paths import Store

# Without KVM a guest takes a quarter of a minute to start, on a machine that does nothing else.
pytestmark = [pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return guest_disks.make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> dict[str, Path]:
    """In the order in which the guest counts them."""
    work = tmp_path_factory.mktemp("images")
    sparse = work / "sparse"
    with sparse.open("wb") as file:
        file.truncate(SPARSE_BYTES)
    sound = guest_disks.ext4(work / "sound", tree)
    guest_disks.edit(sound, f"write {tree}/etc/hosts huge", f"set_inode_field huge size {SPARSE_BYTES}")
    headless = guest_disks.ext4(work / "headless", tree)
    guest_disks.spoil(headless, 1024, 1024)
    fuzzed = guest_disks.ext4(work / "fuzzed", tree)
    # The tables of inodes begin a few blocks in; every seventh of their blocks is garbage.
    for number in range(60):
        guest_disks.spoil(fuzzed, 48 * 1024 + number * 7168, 64, seed=number)
    garbage = work / "garbage"
    garbage.write_bytes(bytes(4 * MIB))
    guest_disks.spoil(garbage, 0, 4 * MIB)
    other = guest_disks.xfs(work / "xfs", tree / "etc" / "random")
    return {"vd-a": sound, "vd-b": headless, "vd-c": fuzzed, "vd-d": garbage, "vd-e": other}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guest(
    tmp_path_factory: pytest.TempPathFactory, browse_cache: Path, images: dict[str, Path]
) -> AsyncIterator[Guest]:
    root = tmp_path_factory.mktemp("store")
    nowhere = root / "nowhere"
    config = Config(store=root, tls_certificate=nowhere, tls_key=nowhere, browse_cache=browse_cache)
    with open_catalog(config.database_url) as catalog:
        point = guest_disks.add_disks(SampleStore(root, catalog), images)
        wanted = find_wanted(catalog, Store(root), point.id, "db", accept_damage=False)
        async with open_guest(wanted, config) as guest:
            yield guest


async def content(guest: Guest, file_system: str, path: str) -> bytes:
    async with guest.content(file_system, path) as parts:
        return b"".join([part async for part in parts])


async def names(guest: Guest, path: str, file_system: str = "sda") -> list[str]:
    return [each.name for each in (await guest.list(file_system, path, offset=0, limit=1000)).entries]


async def test_every_file_system_is_there_and_says_what_is_wrong_with_it(guest: Guest) -> None:
    found = {each.name: each for each in guest.file_systems}
    assert found["sda"] == FileSystem(
        name="sda", type="ext4", label="", disk="vd-a", size=32 * MIB, used=found["sda"].used, problem=None
    )
    assert 3 * MIB < (found["sda"].used or 0) < 32 * MIB
    assert (found["sde"].type, found["sde"].disk, found["sde"].problem) == ("xfs", "vd-e", None)
    assert found["sdb"].problem
    assert found["sdd"].problem == "it is of no kind that is known here"


async def test_content_is_bit_identical(guest: Guest, tree: Path) -> None:
    wanted = (tree / "etc" / "random").read_bytes()
    assert await content(guest, "sda", "/etc/random") == wanted
    assert await content(guest, "sde", "/data/file") == wanted
    assert await content(guest, "sda", "/deep/er/empty") == b""


async def test_a_listing_says_what_each_thing_is(guest: Guest) -> None:
    found = {each.name: each for each in (await guest.list("sda", "/deep", offset=0, limit=99)).entries}
    assert {name: each.kind for name, each in found.items()} == {
        "disk": FileKind.DEVICE,
        "er": FileKind.DIRECTORY,
        "link": FileKind.LINK,
        "pipe": FileKind.FIFO,
        "root-shell": FileKind.FILE,
        "second-name": FileKind.FILE,
    }
    assert (found["root-shell"].mode, found["root-shell"].size) == (0o6755, 10)
    assert (found["link"].target, found["er"].target) == ("/etc", None)
    (data,) = (await guest.list("sde", "/data", offset=0, limit=9)).entries
    assert (data.name, data.mode, data.uid, data.gid) == ("file", 0o640, 3, 4)


async def test_names_are_bytes_and_lead_back_to_their_files(guest: Guest) -> None:
    found = await names(guest, "/")
    for name in (SCRIPT, NEWLINE, ODD, BIDI, b"back\\slash"):
        assert shown(name) in found
        assert await content(guest, "sda", f"/{shown(name)}") == name


async def test_links_lead_nowhere_but_into_the_guest(guest: Guest) -> None:
    for link in ("/absolute", "/upwards"):
        assert await content(guest, "sda", link) == b"127.0.0.1 localhost\n"
    assert "hosts" in await names(guest, "/deep/link")
    with pytest.raises(ReceiverError):
        await content(guest, "sda", "/round")


async def test_a_large_directory_comes_in_pages(guest: Guest) -> None:
    first = await guest.list("sda", "/many", offset=0, limit=1000)
    last = await guest.list("sda", "/many", offset=2000, limit=1000)
    assert (first.total, len(first.entries), len(last.entries)) == (MANY, 1000, 500)
    assert (first.entries[0].name, last.entries[-1].name) == ("00000", f"{MANY - 1:05}")
    assert (await guest.list("sda", "/many", offset=9999, limit=9)).entries == []


async def test_a_directory_is_taken_as_an_archive(guest: Guest, tree: Path) -> None:
    archive = await content(guest, "sda", "/etc")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert sorted(tar.getnames()) == [".", "./hosts", "./random"]
        taken = tar.extractfile("./random")
        assert taken is not None
        wanted = hashlib.sha256((tree / "etc" / "random").read_bytes()).digest()
        assert hashlib.sha256(taken.read()).digest() == wanted


async def test_a_transfer_may_be_left_in_the_middle(guest: Guest, tree: Path) -> None:
    async with guest.content("sda", "/etc/random") as parts:
        await anext(parts)
    assert await content(guest, "sda", "/etc/hosts") == (tree / "etc" / "hosts").read_bytes()


async def test_a_transfer_may_be_cut_off_anywhere(guest: Guest, tree: Path) -> None:
    for seconds in (0.0, 0.01, 0.03, 0.1, 0.3):
        async with guest.content("sda", "/many") as parts:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    assert [part async for part in parts]
        assert await content(guest, "sda", "/etc/hosts") == (tree / "etc" / "hosts").read_bytes()


async def test_a_file_larger_than_its_disks_is_refused(guest: Guest) -> None:
    with pytest.raises(GuestFileUnsuitable, match=r"^sda:/huge: it claims 1,099,511,627,776 bytes"):
        await content(guest, "sda", "/huge")


@pytest.mark.parametrize(
    ("file_system", "path", "error"),
    [
        ("sda", "/missing", GuestFileUnknown),
        ("sda", "/etc/hosts/below", GuestFileUnknown),
        ("sdz", "/", GuestFileUnknown),
        ("/dev/sda", "/", GuestFileUnknown),
        ("guest", "/", GuestFileUnknown),
        ("sda", "/deep/disk", GuestFileUnsuitable),
        ("sda", "/deep/pipe", GuestFileUnsuitable),
        ("sdb", "/", GuestFileUnreadable),
    ],
)
async def test_what_cannot_be_is_one_sentence(
    guest: Guest, file_system: str, path: str, error: type[ReceiverError]
) -> None:
    with pytest.raises(error) as caught:
        await content(guest, file_system, path)
    assert "\n" not in str(caught.value)


async def test_a_file_is_no_directory(guest: Guest) -> None:
    with pytest.raises(GuestFileUnsuitable, match="it is a file, and no directory"):
        await guest.list("sda", "/etc/hosts", offset=0, limit=1)


async def test_a_damaged_tree_gives_content_or_a_sentence_and_the_guest_lives(
    guest: Guest, tree: Path
) -> None:
    said: list[ReceiverError] = []
    for path in ("/", "/etc", "/deep", "/many", "/etc/hosts", "/etc/random"):
        try:
            await guest.list("sdc", path, offset=0, limit=1000)
            await content(guest, "sdc", path)
        except ReceiverError as error:
            said.append(error)
    assert said
    assert [str(error) for error in said if "\n" in str(error)] == []
    assert guest.failure is None
    assert await content(guest, "sda", "/etc/hosts") == (tree / "etc" / "hosts").read_bytes()
