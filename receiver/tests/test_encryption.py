# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver that encrypts: sessions, exports, merges, scrubs, restores, and what it says without its key."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command_line import run_command, write_options
from encrypted_layers import KEY, OTHER_KEY, is_clean, reads_as
from hypervisor import MIB, Disk, Hypervisor, back_up_together
from nbd_client import qemu_io
from serving import Served, serving
from tls_files import TlsFiles
from two_hosts import KEYS, get_session, make_disks, make_hosts

from livebackup_receiver import convert
from livebackup_receiver.chain import keyring
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.chain.image import OFFSET, open_image
from livebackup_receiver.chain.keyring import using
from livebackup_receiver.config import Config, build
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.convert import Format
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.encryption import read_keys
from livebackup_receiver.errors import ConfigInvalid, KeyMissing
from livebackup_receiver.model import Role, SessionState, Transport
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.scrub.finding import Result
from livebackup_receiver.store.integrity import check_layer

DB = ("db", "vd-a")
# What a thief would look for.
SECRET = bytes([0xE7]) * 4096


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


@pytest.fixture
def config(config: Config, key_file: Path) -> Config:
    return config.model_copy(update={"encryption": "luks", "encryption_keys": [key_file]})


@pytest.fixture
def disks(tmp_path: Path) -> dict[tuple[str, str], Disk]:
    disks = make_disks(tmp_path)
    disks[DB].write(4 * MIB, MIB, 0xE7)
    return disks


@pytest.fixture
async def points(server: Served, disks: dict[tuple[str, str], Disk]) -> list[str]:
    """Three points, with raw copies of what DB held at each."""
    made = []
    async with server.client() as client:
        hosts = make_hosts(client, disks)
        for number in range(3):
            disks[DB].write(8 * MIB + number * 70_000 + 512, 100_000, 0xE7 - number)
            made.append(await back_up_together(client, hosts))
            copy = disks[DB].path.with_name(f"{made[-1]}.raw")
            copy.write_bytes(disks[DB].path.read_bytes())
    return made


def layer_of(server: Served, point: str) -> Path:
    return server.receiver.store.disk(*DB).layer(point)


def copy_at(disks: dict[tuple[str, str], Disk], point: str) -> Path:
    return disks[DB].path.with_name(f"{point}.raw")


async def test_layers_are_encrypted_and_qemu_reads_them(
    server: Served, disks: dict[tuple[str, str], Disk], points: list[str]
) -> None:
    for point in points:
        layer = layer_of(server, point)
        assert SECRET not in layer.read_bytes()
        assert reads_as(layer, copy_at(disks, point))
        assert is_clean(layer)
        assert await check_layer(layer) == 0
    for key in KEYS:
        with open_image(server.receiver.store.disk(*key).layer(points[-1])) as image:
            assert image.luks


async def test_an_export_is_plain_to_its_reader(
    server: Served, disks: dict[tuple[str, str], Disk], points: list[str]
) -> None:
    async with server.client(Role.RESTORE) as client:
        answer = await client.post(f"/api/v1/points/{points[1]}/exports", json={"vm": "db"})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        names = {each["disk"]: each["export"] for each in made["disks"]}
        first = copy_at(disks, points[1]).read_bytes()[4 * MIB]
        transport = Transport.model_validate(made["transport"])
        await qemu_io(transport, names["vd-a"], f"read -P {first} 4M 1M", read_only=True)


def drop_and_merge(server: Served, point: str, *, max_depth: int = 2) -> None:
    receiver = server.receiver
    drop_points(receiver.catalog, receiver.store, [point], now=datetime.now(UTC))
    work = Consolidation(receiver.store, receiver.catalog, None, max_depth=max_depth)
    for disk in work.waiting():
        work.consolidate(disk, at_once)


async def test_dropped_points_are_merged_and_stay_secret(
    server: Served, disks: dict[tuple[str, str], Disk], points: list[str], tmp_path: Path
) -> None:
    drop_and_merge(server, points[1])
    assert not layer_of(server, points[1]).exists()
    for point in (points[0], points[2]):
        layer = layer_of(server, point)
        assert reads_as(layer, copy_at(disks, point))
        assert SECRET not in layer.read_bytes()
    layers = [layer_of(server, points[2]), layer_of(server, points[0])]
    convert.write(layers, tmp_path / "restored.raw", Format.RAW)
    convert.verify(layers, tmp_path / "restored.raw", Format.RAW)
    assert (tmp_path / "restored.raw").read_bytes() == copy_at(disks, points[2]).read_bytes()


async def test_the_next_backup_lies_on_a_merged_layer(
    server: Served, disks: dict[tuple[str, str], Disk], points: list[str]
) -> None:
    drop_and_merge(server, points[1])
    async with server.client() as client:
        hosts = make_hosts(client, disks)
        disks[DB].write(MIB, 100_000, 0xAB)
        point = await back_up_together(client, hosts)
    assert reads_as(layer_of(server, point), disks[DB].path)


def scrub(server: Served, point: str) -> Result:
    layer = Scrubbed(*DB, point, server.receiver.store, server.receiver.catalog)
    check = scrub_layer(layer, at_once, now=datetime.now(UTC))
    assert check is not None
    return check.result


async def test_a_scrub_finds_damage_below_the_encryption(server: Served, points: list[str]) -> None:
    assert scrub(server, points[0]) is Result.GOOD
    layer = layer_of(server, points[0])
    with open_image(layer) as image:
        tables = image.l2(image.slots())
        assert tables is not None
        place = int(tables[0, 4 * MIB // 65536] & OFFSET)
    with layer.open("r+b") as file:
        file.seek(place)
        file.write(os.urandom(512))
    assert scrub(server, points[0]) is Result.DAMAGED


async def test_without_the_key_nothing_is_called_damaged(server: Served, points: list[str]) -> None:
    with using(keyring.Keyring((OTHER_KEY,))):
        assert scrub(server, points[0]) is Result.UNREADABLE
        layers = [layer_of(server, points[0])]
        with pytest.raises(KeyMissing, match="none of the keys that were given opens it"):
            convert.write(layers, server.receiver.store.root / "restored.raw", Format.RAW)


async def test_commands_read_their_keys_themselves(
    config: Config, disks: dict[tuple[str, str], Disk], points: list[str], tmp_path: Path
) -> None:
    path = write_options(config, tmp_path / "receiver.toml")
    restore = ("restore", points[1], "--vm", "db", "--format", "raw", "--to", str(tmp_path / "out"))
    done = await run_command(path, *restore)
    assert done.code == 0, done.err
    assert (tmp_path / "out/db/vd-a.raw").read_bytes() == copy_at(disks, points[1]).read_bytes()
    checked = await run_command(path, "scrub", "--all", "--json")
    assert {each["result"] for each in checked.json["layers"]} == {"good"}


async def test_a_command_without_the_key_names_the_layer(
    config: Config, points: list[str], tmp_path: Path
) -> None:
    keyless = config.model_copy(update={"encryption": "none", "encryption_keys": []})
    path = write_options(keyless, tmp_path / "receiver.toml")
    refused = await run_command(path, "restore", points[0], "--vm", "db", "--to", str(tmp_path / "out"))
    assert refused.code == 10
    assert f"{points[0]}.qcow2 is encrypted, and none of the keys" in refused.refusal
    assert not [each for each in (tmp_path / "out").rglob("*") if each.is_file()]


@asynccontextmanager
async def at_work(
    config: Config, tls: TlsFiles, disks: dict[tuple[str, str], Disk]
) -> AsyncIterator[tuple[Served, list[Hypervisor]]]:
    """A receiver that serves with this configuration, and the hosts of the disks."""
    async with open_receiver(config) as receiver, serving(receiver, tls) as server, server.client() as client:
        yield server, make_hosts(client, disks)


async def test_another_key_is_for_new_layers_only(
    config: Config, tls: TlsFiles, disks: dict[tuple[str, str], Disk], key_file: Path, tmp_path: Path
) -> None:
    async with at_work(config, tls, disks) as (server, hosts):
        old = await back_up_together(hosts[0].client, hosts)
    newer = key_file.with_name("newer")
    newer.write_bytes(OTHER_KEY)
    newer.chmod(0o600)
    changed = config.model_copy(update={"encryption_keys": [newer, key_file]})
    async with at_work(changed, tls, disks) as (server, hosts):
        disks[DB].write(MIB, 4096, 0x5A)
        new = await back_up_together(hosts[0].client, hosts)
        target = tmp_path / "restored.raw"
        convert.write([layer_of(server, new), layer_of(server, old)], target, Format.RAW)
        assert target.read_bytes() == disks[DB].path.read_bytes()
    with using(keyring.Keyring((KEY,))), pytest.raises(KeyMissing):
        await check_layer(layer_of(server, new))


async def test_a_lost_key_fails_the_backup_with_the_layers_name(
    config: Config, tls: TlsFiles, disks: dict[tuple[str, str], Disk], key_file: Path
) -> None:
    async with at_work(config, tls, disks) as (dummy, hosts):
        await back_up_together(hosts[0].client, hosts)
    key_file.write_bytes(OTHER_KEY)
    async with at_work(config, tls, disks) as (dummy, hosts):
        session = await back_up_together(hosts[0].client, hosts)
        ended = await get_session(hosts[0].client, session)
    assert ended.state is SessionState.ABORTED
    assert "is encrypted, and none of the keys that were given opens it" in (ended.reason or "")


async def test_encryption_may_begin_in_the_middle_of_a_chain(
    config: Config, tls: TlsFiles, disks: dict[tuple[str, str], Disk]
) -> None:
    plain = config.model_copy(update={"encryption": "none", "encryption_keys": []})
    made = []
    for number, each in enumerate((plain, config, config)):
        async with at_work(each, tls, disks) as (server, hosts):
            disks[DB].write(number * MIB, 100_000, 0x11 + number)
            made.append(await back_up_together(hosts[0].client, hosts))
            if number == 2:
                drop_and_merge(server, made[1])
                assert reads_as(layer_of(server, made[2]), disks[DB].path)


BAD_FILES = {
    "short": (b"0123456789", 0o600, "is shorter than 32 bytes"),
    "binary": (b"\xff" * 40, 0o600, "is no text"),
    "open": (KEY, 0o644, "everybody may open"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_key_file_is_refused_at_start(config: Config, key_file: Path, name: str) -> None:
    content, mode, words = BAD_FILES[name]
    key_file.write_bytes(content)
    key_file.chmod(mode)
    with pytest.raises(ConfigInvalid) as refusal:
        read_keys(config)
    assert words in refusal.value.cause
    assert str(key_file) in refusal.value.cause


def test_a_missing_key_file_is_refused_at_start(config: Config, key_file: Path) -> None:
    key_file.unlink()
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read_keys(config)


def test_a_key_beside_the_data_is_refused(config: Config, key_file: Path) -> None:
    inside = config.store / "key"
    key_file.rename(inside)
    key_file.symlink_to(inside)
    with pytest.raises(ConfigInvalid, match="beside the data"):
        read_keys(config)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encryption": "luks"}, "no key is named"),
        ({"encryption": "luks", "encryption_keys": ["/k"], "compression": "zstd"}, "does not compress"),
        ({"volumes": ["backup"]}, "backup does not begin with a /"),
        ({"store": "backup"}, "backup does not begin with a /"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, object], words: str) -> None:
    given = {"store": "/srv", "tls_certificate": "/c", "tls_key": "/k"} | options
    with pytest.raises(ConfigInvalid) as refusal:
        build(given)
    assert words in refusal.value.cause
