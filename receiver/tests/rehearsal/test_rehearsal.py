# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearsals with real guests: passed, failed, or could not run."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from encrypted_layers import KEY
from rehearsal_guests import DISK, add_point, member, plan, waiting
from sample_records import new_id
from sample_store import SampleStore

from livebackup_receiver import subprocesses
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import record_check
from livebackup_receiver.catalog.points import load_point
from livebackup_receiver.chain.keyring import Keyring, using
from livebackup_receiver.clock import now
from livebackup_receiver.config import Config
from livebackup_receiver.errors import VmUnknown
from livebackup_receiver.model import Outcome, Point
from livebackup_receiver.rehearsal import means
from livebackup_receiver.rehearsal.conduct import order_of, rehearse
from livebackup_receiver.rehearsal.kept import read_result
from livebackup_receiver.rehearsal.result import Rehearsal
from livebackup_receiver.scrub.finding import LayerCheck, Result
from livebackup_receiver.store.paths import Store

# A processor that is simulated, on a machine that does other things as well.
pytestmark = pytest.mark.timeout(300)


async def rehearsed(point: Point, config: Config, catalog: Catalog, *vms: str) -> Rehearsal:
    order = order_of(catalog, new_id(now()), point.id, vms)
    return await rehearse(order, config, catalog, lambda dummy: None)


def outcomes(result: Rehearsal) -> dict[str, tuple[Outcome, str | None]]:
    return {each.vm: (each.outcome, each.reason) for each in result.members}


def digests(root: Path) -> Iterator[tuple[str, str]]:
    """Every file of the store but what is about rehearsals, and the catalog that says so."""
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and not name.startswith(("rehearsals/", "catalog.sqlite3")):
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_group_that_boots_has_passed_and_the_store_is_as_it_was(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": "db is up", "app": "app is up"})
    plan(catalog, config, member("app", after=["db"]), member("db"))
    before = dict(digests(config.store))
    result = await rehearsed(point, config, catalog)
    assert (result.outcome, result.reason, result.accelerator) == (Outcome.PASSED, None, "tcg")
    assert set(outcomes(result)) == {"db", "app"}
    assert all(each.ready_s is not None for each in result.members)
    assert dict(digests(config.store)) == before


async def test_what_it_has_shown_is_kept_with_console_and_picture(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": "db is up"})
    plan(catalog, config, member("db"))
    result = await rehearsed(point, config, catalog)
    kept = Store(config.store)
    assert read_result(kept, result.id) == result
    logs = kept.rehearsal(result.id)
    assert (logs / "db.console").read_text().endswith("db is up")
    assert (logs / "db.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert list(kept.rehearsing.iterdir()) == []
    with catalog.read() as db:
        newest = load_point(db, point.id).rehearsal
    assert newest is not None
    assert (newest.id, newest.outcome) == (result.id, Outcome.PASSED)


async def test_one_that_does_not_boot_fails_with_its_console_and_holds_up_who_needs_it(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": None, "app": "app is up", "batch": "batch is up", "web": "web is up"})
    lame = member("db", ready={"console": "is up", "timeout_s": 6})
    plan(catalog, config, lame, member("app", after=["db"]), member("batch", after=["app"]), member("web"))
    result = await rehearsed(point, config, catalog)
    reason = "it did not boot: its console did not show 'is up' within 6 s"
    assert (result.outcome, result.reason) == (Outcome.FAILED, f"db: {reason}")
    assert outcomes(result) == {
        "db": (Outcome.FAILED, reason),
        "web": (Outcome.PASSED, None),
        "app": (Outcome.NOT_STARTED, "it comes after db, which failed"),
        "batch": (Outcome.NOT_STARTED, "it comes after app, which was not started"),
    }
    (db,) = [each for each in result.members if each.vm == "db"]
    assert "No bootable device." in " ".join(db.console_tail)
    assert db.screenshot


async def test_only_a_vm_and_what_it_needs_are_rehearsed_if_asked(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": "db is up", "app": "app is up", "web": None})
    plan(catalog, config, member("app", after=["db"]), member("db"), member("web"))
    result = await rehearsed(point, config, catalog, "app")
    assert (result.outcome, result.vms) == (Outcome.PASSED, ["app", "db"])
    with pytest.raises(VmUnknown, match=f"VM mail is not in point {point.id}"):
        order_of(catalog, new_id(), point.id, ["mail"])


async def test_a_vm_of_the_plan_that_the_point_lacks_has_failed(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"app": "app is up"})
    plan(catalog, config, member("app", after=["db"]), member("db"))
    assert outcomes(await rehearsed(point, config, catalog)) == {
        "db": (Outcome.FAILED, "it is not in the point"),
        "app": (Outcome.NOT_STARTED, "it comes after db, which failed"),
    }


async def test_the_plan_says_from_which_disk_it_boots(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": "db is up"})
    boot = {"memory_mib": 16, "disks": ["vd-z"]}
    plan(catalog, config, member("db", boot=boot))
    result = await rehearsed(point, config, catalog)
    assert (result.outcome, result.reason) == (
        Outcome.FAILED,
        "disk vd-z of VM db is not in the point",
    )


@pytest.mark.parametrize(
    "boot", [{"disk_bus": "scsi"}, {"disk_bus": "sata"}, {"disk_bus": "ide", "machine": "pc"}]
)
async def test_it_boots_from_other_controllers(
    store: SampleStore, config: Config, catalog: Catalog, boot: dict[str, str]
) -> None:
    point = add_point(store, {"db": "db is up"})
    plan(catalog, config, member("db", boot={"memory_mib": 16, **boot}))
    result = await rehearsed(point, config, catalog)
    assert (result.outcome, result.reason) == (Outcome.PASSED, None)


async def test_encrypted_layers_are_booted_from(store: SampleStore, config: Config, catalog: Catalog) -> None:
    store.locked = True
    with using(Keyring((KEY,))):
        point = add_point(store, {"db": "db is up"})
        plan(catalog, config, member("db"))
        assert (await rehearsed(point, config, catalog)).outcome is Outcome.PASSED
    without = await rehearsed(point, config, catalog)
    assert without.outcome is Outcome.COULD_NOT_RUN
    assert "is encrypted, and none of the keys that were given opens it" in (without.reason or "")


async def test_a_guest_that_writes_too_much_could_not_run(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": "db is up"}, size=64 << 20, writes=900)
    plan(catalog, config, waiting("db"))
    small = config.model_copy(update={"rehearsal_overlay_bytes": 16 << 20})
    result = await rehearsed(point, small, catalog)
    assert result.outcome is Outcome.COULD_NOT_RUN
    assert "wrote more to disk0 than rehearsal_overlay_bytes allows" in (result.reason or "")


async def test_a_point_that_is_known_to_be_damaged_has_failed(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": "db is up"})
    found = LayerCheck(
        vm="db", disk=DISK, point=point.id, checked_at=now(), result=Result.DAMAGED, problem="bits", ranges=[]
    )
    with catalog.write() as db:
        record_check(db, found)
    result = await rehearsed(point, config, catalog)
    assert result.outcome is Outcome.FAILED
    assert f"disk {DISK} of VM db is damaged at point {point.id}" in (result.reason or "")


async def test_a_point_whose_layer_is_gone_has_failed(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": "db is up"})
    store.layer(point, "db", DISK).unlink()
    result = await rehearsed(point, config, catalog)
    assert result.outcome is Outcome.FAILED
    assert (result.reason or "").endswith("is damaged: it is missing")


@pytest.mark.parametrize("program", ["qemu-system-x86_64", "bwrap", "ip", "qemu-img", "dnsmasq"])
async def test_without_the_means_it_could_not_run(
    store: SampleStore,
    config: Config,
    catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
) -> None:
    point = add_point(store, {"db": "db is up"})
    plan(catalog, config, member("db"), network={"address": "10.0.0.1/24", "dhcp": True})
    monkeypatch.setitem(subprocesses.ENVIRONMENT, "PATH", programs_but(program, tmp_path / "bin"))
    result = await rehearsed(point, config, catalog)
    assert result.outcome is Outcome.COULD_NOT_RUN
    assert result.reason == f"{program} is not installed; install the package {means.PACKAGES[program]}"
    with catalog.read() as db:
        newest = load_point(db, point.id).rehearsal
    assert newest is not None
    assert newest.outcome is Outcome.COULD_NOT_RUN


def programs_but(missing: str, directory: Path) -> str:
    """A search path without a program."""
    directory.mkdir()
    for name in {*means.PACKAGES, "setpriv", "true", "env", "prlimit"} - {missing}:
        found = shutil.which(name, path=subprocesses.ENVIRONMENT["PATH"])
        assert found is not None, name
        (directory / name).symlink_to(found)
    return str(directory)


async def test_more_memory_than_there_is_could_not_run(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": "db is up"})
    plan(catalog, config, member("db", boot={"memory_mib": 1 << 22}))
    result = await rehearsed(point, config, catalog)
    assert result.outcome is Outcome.COULD_NOT_RUN
    assert "the VMs need 4194454 MiB of memory, and" in (result.reason or "")


async def test_a_kernel_that_is_not_there_could_not_run(
    store: SampleStore, config: Config, catalog: Catalog, tmp_path: Path
) -> None:
    point = add_point(store, {"db": "db is up"})
    plan(catalog, config, member("db", boot={"kernel": "vmlinuz"}))
    unset = await rehearsed(point, config, catalog)
    lacking = await rehearsed(point, config.model_copy(update={"rehearsal_files": tmp_path}), catalog)
    assert unset.reason == "the option rehearsal_files is not set; it names the directory of vmlinuz"
    assert (lacking.reason or "").startswith(f"{tmp_path}/vmlinuz cannot be read")
    assert {unset.outcome, lacking.outcome} == {Outcome.COULD_NOT_RUN}


async def test_without_room_for_what_guests_write_it_could_not_run(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": "db is up"})
    plan(catalog, config, member("db"))
    full = config.model_copy(update={"min_free_bytes": 1 << 60})
    result = await rehearsed(point, full, catalog)
    assert result.outcome is Outcome.COULD_NOT_RUN
    assert "has no room for what the guests write" in (result.reason or "")


async def test_a_uefi_machine_comes_up_and_looks_for_something_to_boot(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db": None})
    ready = {"console": "BdsDxe: (loading|failed|No bootable)", "timeout_s": 200}
    boot = {"memory_mib": 128, "firmware": "uefi"}
    plan(catalog, config, member("db", boot=boot, ready=ready))
    result = await rehearsed(point, config, catalog)
    assert (result.outcome, result.reason) == (Outcome.PASSED, None)


async def test_a_guest_whose_machine_ends_has_failed(
    store: SampleStore, config: Config, catalog: Catalog
) -> None:
    point = add_point(store, {"db-that-ends": "db is up"})
    plan(catalog, config, waiting("db-that-ends"))
    order, started = order_of(catalog, new_id(now()), point.id), asyncio.Event()
    work = asyncio.create_task(rehearse(order, config, catalog, lambda dummy: started.set()))
    await started.wait()
    argv = ["pgrep", "-f", "^qemu-system-x86_64 -name db-that-ends "]
    os.kill(int((await subprocesses.run(argv, timeout_s=20)).stdout), signal.SIGKILL)
    result = await work
    assert (result.outcome, result.reason) == (Outcome.FAILED, "db-that-ends: its machine ended")
    assert result.members[0].screenshot is False
