# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named checks, each against what it is there to find."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from file_systems import small_file_system
from sample_records import NOW, group, new_id, point, session
from sample_store import SampleStore, Write
from tls_files import make_tls_files

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.checks.backups import freshness, is_stuck
from livebackup_receiver.checks.installation import judge_certificate
from livebackup_receiver.checks.result import Check, CheckState, Inspection, worst
from livebackup_receiver.checks.store import judge_file_system
from livebackup_receiver.checks.table import CHECKS, run_checks
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.model import Group, Session, SessionState

DISK = ("db", "vd-a")


async def run(config: Config, catalog: Catalog, *sessions: Session) -> dict[str, Check]:
    checks = await run_checks(Inspection(config, catalog, lambda: sessions, datetime.now(UTC)))
    return {check.name: check for check in checks}


async def failed(name: str, config: Config, catalog: Catalog) -> str:
    """The message of a check that must have failed."""
    check = (await run(config, catalog))[name]
    assert check.state is CheckState.FAILED
    return check.message


async def test_a_good_receiver_passes_every_check(
    config: Config, catalog: Catalog, store: SampleStore
) -> None:
    store.add({DISK: [Write(0, 1024, 1)]})
    checks = await run(config, catalog)
    assert {name: check.state for name, check in checks.items() if check.state is not CheckState.OK} == {}
    assert checks["qemu-img"].message.startswith("qemu-img version")


async def test_the_check_of_the_store_leaves_nothing_in_it(config: Config, catalog: Catalog) -> None:
    before = {path.name for path in config.store.iterdir()}
    await run(config, catalog)
    assert {path.name for path in config.store.iterdir()} == before


async def test_a_store_that_is_gone(config: Config, catalog: Catalog, tmp_path: Path) -> None:
    gone = config.model_copy(update={"store": tmp_path / "gone"})
    assert "cannot be written" in await failed("store", gone, catalog)
    assert "is its file system mounted?" in await failed("file-system", gone, catalog)


async def test_a_store_with_too_little_room(config: Config, catalog: Catalog) -> None:
    full = config.model_copy(update={"min_free_bytes": 1 << 60})
    assert "free space or make it larger" in await failed("room", full, catalog)


async def test_what_the_file_system_can_is_said(config: Config, catalog: Catalog, sharing_path: Path) -> None:
    shared = config.model_copy(update={"store": sharing_path})
    check = (await run(shared, catalog))["file-system"]
    assert check.state is CheckState.OK
    assert f"files in {sharing_path} can share extents" in check.message


async def test_a_file_system_that_makes_holes_only(config: Config, catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with small_file_system(tmp_path / "small", "1M"):
        check = (await run(config.model_copy(update={"store": tmp_path / "small"}), catalog))["file-system"]
    assert check.state is CheckState.OK
    assert "can have holes, but not share extents" in check.message


def test_a_file_system_that_can_do_neither_is_warned_of() -> None:
    check = judge_file_system(Abilities(shares=False, punches=False), Path("/srv/store"), 50)
    assert check.state is CheckState.WARNING
    assert "only when a chain has more than 50 layers" in check.message


async def test_a_program_that_is_not_installed(
    config: Config, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livebackup_receiver.checks.installation.PROGRAMS", ("qemu-missing",))
    message = await failed("qemu-missing", config, catalog)
    assert "qemu-missing is not installed" in message
    assert "install the packages" in message


async def test_a_catalog_that_was_never_migrated(config: Config, tmp_path: Path) -> None:
    empty = Catalog(f"sqlite:///{tmp_path}/empty.sqlite3")
    try:
        assert "start the receiver" in await failed("catalog", config, empty)
    finally:
        empty.close()


async def test_an_expired_certificate(config: Config, catalog: Catalog, tmp_path: Path) -> None:
    tls = make_tls_files(tmp_path, lifetime=timedelta(seconds=-1))
    expired = config.model_copy(update={"tls_certificate": tls.certificate, "tls_key": tls.key})
    assert "expired on" in await failed("certificate", expired, catalog)


async def test_a_certificate_with_the_key_of_another(
    config: Config, catalog: Catalog, tmp_path: Path
) -> None:
    other = config.model_copy(update={"tls_key": make_tls_files(tmp_path).key})
    assert "are not a certificate in PEM and its key" in await failed("certificate", other, catalog)


async def test_a_certificate_that_cannot_be_read(config: Config, catalog: Catalog, tmp_path: Path) -> None:
    missing = config.model_copy(update={"tls_certificate": tmp_path / "missing.crt"})
    assert "missing.crt cannot be read" in await failed("certificate", missing, catalog)


@pytest.mark.parametrize(
    ("days", "state"), [(15, CheckState.OK), (13, CheckState.WARNING), (0, CheckState.FAILED)]
)
def test_a_certificate_by_the_days_it_has_left(days: int, state: CheckState) -> None:
    assert judge_certificate("receiver.crt", NOW + timedelta(days=days), NOW).state is state


async def test_a_missing_layer_is_named(config: Config, catalog: Catalog, store: SampleStore) -> None:
    made = store.add({DISK: [Write(0, 1024, 1)]})
    store.layer(made).unlink()
    assert f"vms/db/vd-a/{made.id}.qcow2 is missing" in await failed("layers", config, catalog)


async def test_a_truncated_layer_is_named(config: Config, catalog: Catalog, store: SampleStore) -> None:
    layer = store.layer(store.add({DISK: [Write(0, 1024, 1)]}))
    with layer.open("r+b") as file:
        file.truncate(4096)
    assert "has 4,096 bytes instead of" in await failed("layers", config, catalog)


async def test_a_missing_manifest_is_found(config: Config, catalog: Catalog, store: SampleStore) -> None:
    store.layer(store.add({DISK: [Write(0, 1024, 1)]})).with_suffix(".json").unlink()
    assert ".json" in await failed("layers", config, catalog)


async def test_of_many_missing_layers_some_are_named_and_all_are_counted(
    config: Config, catalog: Catalog
) -> None:
    with catalog.write() as db:
        for day in range(5):
            add_point(db, point(NOW + timedelta(days=day)))
    assert "and 2 more" in await failed("layers", config, catalog)


@pytest.mark.parametrize(
    ("state", "age", "stuck"),
    [
        (SessionState.CUTTING, timedelta(minutes=1), False),
        (SessionState.CUTTING, timedelta(minutes=11), True),
        (SessionState.TRANSFERRING, timedelta(hours=23), False),
        (SessionState.TRANSFERRING, timedelta(hours=25), True),
    ],
)
def test_a_session_is_stuck_when_its_state_takes_too_long(
    state: SessionState, age: timedelta, stuck: bool
) -> None:
    assert is_stuck(session(state), NOW + age) is stuck


async def test_a_stuck_session_is_a_warning_that_names_it(config: Config, catalog: Catalog) -> None:
    old = session(SessionState.PREPARING)
    check = (await run(config, catalog, old))["sessions"]
    assert check.state is CheckState.WARNING
    assert f"session {old.id} of group nightly is preparing" in check.message


def test_a_group_by_the_age_of_its_newest_point() -> None:
    hour = timedelta(hours=1)
    fresh = freshness(group(), now=NOW + hour, warning_s=3600)
    stale = freshness(group(), now=NOW + 2 * hour, warning_s=3600)
    assert (fresh.state, stale.state) == (CheckState.OK, CheckState.WARNING)
    assert (
        stale.message == "the newest point of group nightly is 2 hours old, more than an hour; run its backup"
    )


def test_the_state_before_a_rollback_may_become_old() -> None:
    saved = group().model_copy(update={"name": "rollback-db"})
    check = freshness(saved, now=NOW + timedelta(days=100), warning_s=3600)
    assert check.state is CheckState.OK
    assert "it is the state before a rollback" in check.message


def test_a_group_without_any_point_is_a_warning() -> None:
    assert freshness(group(point_at=None), now=NOW, warning_s=3600).state is CheckState.WARNING


def test_a_group_whose_first_session_runs_is_no_warning() -> None:
    running = Group.LastSession(id=new_id(), state=SessionState.CUTTING, reason=None)
    check = freshness(group(point_at=None, last_session=running), now=NOW, warning_s=3600)
    assert check.state is CheckState.OK
    assert "its first session is running" in check.message


# A plugin of apprise still imports a module that Python 3.13 has dropped.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
async def test_a_notification_url_that_means_nothing(config: Config, catalog: Catalog) -> None:
    wrong = config.model_copy(update={"notify_urls": ["json://host", "nonsense"]})
    assert "number 2 of notify_urls" in await failed("notifications", wrong, catalog)


async def test_a_check_that_breaks_has_failed_and_the_others_go_on(
    config: Config, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(inspection: Inspection) -> list[Check]:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setitem(CHECKS, "room", broken)
    checks = await run(config, catalog)
    assert checks["room"].message == "nobody thought of this"
    assert checks["store"].state is CheckState.OK


def test_the_worst_state_decides() -> None:
    states = [CheckState.OK, CheckState.FAILED, CheckState.WARNING]
    assert worst([Check(name="x", state=state, message="") for state in states]) is CheckState.FAILED
    assert worst([]) is CheckState.OK
