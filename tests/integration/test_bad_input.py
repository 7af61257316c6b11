# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user can get wrong: each is one sentence, a failed run, and nothing left or committed.

Busy sockets, formats that are not backed up and disks without tracking are looked at in tests/qemu.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from demo import proofs
from demo.site import Site
from demo.story import Evidence
from tests.integration.replaced import CERTIFICATE, CONFIGURATION, expired_certificate, full_store, replaced

pytestmark = pytest.mark.timeout(900)

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
RESTORED = "/var/tmp/bad-input"
ON_EACH_HOST = "{{ ['db', 'app'] if inventory_hostname == 'hv1' else ['web'] }}"


@pytest.fixture(autouse=True)
def nothing_changes(site: Site, evidence: Evidence) -> Iterator[None]:
    """No test of this file may leave a point, or anything that only a running session needs."""
    before = site.points()
    yield
    assert site.points() == before
    proofs.nothing_left(site)


def refusal(site: Site, playbook: str, **variables: Any) -> str:
    """What a run that has to fail says."""
    result = site.playbook(playbook, **variables)
    assert not result.ok, result.output
    return " ".join(result.output.split())


def restore_refusal(site: Site, **variables: Any) -> str:
    """What a restore that has to fail says; it must not even make a directory."""
    said = refusal(site, "restore", livebackup_restore_to=RESTORED, **variables)
    for host in ("hv1", "hv2"):
        assert not site.lab.host(host).path(RESTORED).exists()
    return said


def test_a_receiver_that_does_not_answer(site: Site) -> None:
    url = f"https://{site.lab.host('rcv').spec.address}:8441"
    said = refusal(site, "backup", livebackup_receiver_url=url)
    assert f"The receiver at {url} does not answer: [Errno 111] Connection refused" in said
    assert "check receiver_url and that the receiver runs" in said


def test_a_wrong_token(site: Site) -> None:
    for host in ("hv1", "hv2"):
        site.lab.host(host).path("/root/wrong.token").write_text("lb_wrong\n")
    said = refusal(site, "backup", livebackup_token_file="/root/wrong.token")
    assert f"The receiver at {site.url} refuses the token from /root/wrong.token: the token is" in said
    assert "with a token made by `livebackup-receiver token`" in said


def test_an_expired_certificate_which_deploying_renews(site: Site) -> None:
    host = site.lab.host("rcv")
    with replaced(host, CERTIFICATE, expired_certificate(host)):
        said = refusal(site, "backup")
        assert f"certificate of the receiver at {site.url} cannot be trusted: certificate has expired" in said
        assert "run livebackup.qemu.deploy to renew it" in said
        site.play("deploy")
        listed = site.module("hv1", "session_info", receiver_url=site.url)
        assert listed["sessions"]


def test_a_vm_that_does_not_run(site: Site) -> None:
    web = site.lab.vm("web")
    web.kill()
    try:
        said = refusal(site, "backup", livebackup_vms=ON_EACH_HOST)
    finally:
        web.start()
        web.wait()
    assert "VM web is not running: nobody listens on /run/qemu/web.qmp; start the VM." in said


def test_a_vm_that_no_host_has(site: Site) -> None:
    said = refusal(site, "backup", livebackup_vms=["ghost"])
    assert "No QMP socket of this host belongs to VM ghost (found: web); start the VM" in said


def test_a_socket_that_is_not_there(site: Site) -> None:
    said = refusal(site, "backup", livebackup_qmp_sockets=["/run/qemu/none.qmp"])
    assert "QMP socket /run/qemu/none.qmp does not exist; start the VM or correct qmp_sockets." in said


def test_a_host_of_the_inventory_without_vms(site: Site) -> None:
    only_on_the_first = "{{ ['/run/qemu/*.qmp'] if inventory_hostname == 'hv1' else ['/run/none/*.qmp'] }}"
    said = refusal(site, "backup", livebackup_qmp_sockets=only_on_the_first)
    assert "Group nightly was not backed up: participant hv2 failed: No VM runs here" in said
    assert "start the VMs or correct qmp_sockets" in said


def test_a_store_that_is_full(site: Site) -> None:
    host = site.lab.host("rcv")
    with replaced(host, CONFIGURATION, full_store(host)):
        said = refusal(site, "backup")
    assert "the store /var/lib/livebackup/store needs 1,000,000,000,000,000 bytes free and has " in said
    assert "free space in it or make it larger, then run the backup again" in said


def test_a_point_that_does_not_exist(site: Site) -> None:
    said = restore_refusal(site, livebackup_restore_point=UNKNOWN)
    assert f"point {UNKNOWN} does not exist; list the points with `livebackup-receiver points`" in said


def test_a_vm_that_the_point_does_not_hold(site: Site, evidence: Evidence) -> None:
    point, vms = evidence.points[0]["id"], [{"vm": "ghost", "host": "hv1"}]
    said = restore_refusal(site, livebackup_restore_point=point, livebackup_restore_vms=vms)
    assert f"The restore point {point} holds no VM ghost; it holds: app, db, web." in said


def test_a_group_that_was_never_backed_up(site: Site) -> None:
    said = restore_refusal(site, livebackup_restore_point="latest", livebackup_group="weekly")
    assert "group weekly has never been backed up here; list the groups" in said


def test_the_commands_on_the_receiver_name_what_is_unknown(site: Site, evidence: Evidence) -> None:
    host, newest = site.lab.host("rcv"), evidence.points[-1]["id"]
    for point, vm, words in (
        (UNKNOWN, "db", f"point {UNKNOWN} does not exist"),
        (newest, "ghost", f"VM ghost is not in point {newest}"),
    ):
        argv = ["livebackup-receiver", "restore", point, "--vm", vm, "--to", RESTORED]
        done = host.run(argv, check=False)
        assert done.returncode != 0
        assert words in " ".join(done.stderr.split())
