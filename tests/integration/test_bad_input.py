# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong by a user's hand: one sentence with object, cause and remedy, and nothing left behind.

Bad input that one QEMU process can show is tested in tests/qemu; here is what takes hosts and playbooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from demo import proofs
from demo.site import STORE, Site
from demo.story import Evidence
from lab.waiting import until

pytestmark = [pytest.mark.timeout(1800), pytest.mark.usefixtures("evidence")]

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
CONFIG = "/etc/livebackup/receiver.toml"
TLS = "/etc/livebackup/tls"


@pytest.fixture(autouse=True)
def nothing_is_left(site: Site, evidence: Evidence) -> Iterator[None]:
    """After each refusal, as before it."""
    yield
    proofs.nothing_left(site)


@pytest.fixture
def restore_token(site: Site) -> str:
    return site.lab.host("rcv").run(["cat", "/etc/livebackup/tokens/restore"]).stdout.strip()


def refused(site: Site, playbook: str, **more: Any) -> str:
    """What a playbook that has to fail says, on one line."""
    result = site.playbook(playbook, **more)
    assert not result.ok, result.output
    return " ".join(result.output.split())


def test_a_receiver_that_cannot_be_reached(site: Site) -> None:
    said = refused(site, "backup", livebackup_receiver_url="https://10.78.0.13:1")
    assert "The receiver at https://10.78.0.13:1 does not answer" in said
    assert "check receiver_url" in said


def test_an_inventory_host_without_vms(site: Site) -> None:
    said = refused(site, "backup", livebackup_qmp_sockets=["/run/qemu/none-*.qmp"])
    assert "VM" in said
    assert "qmp_sockets" in said


def test_a_vm_that_does_not_run(site: Site) -> None:
    web = site.lab.vm("web")
    web.kill()
    try:
        said = refused(site, "backup", livebackup_tracking=False)
    finally:
        web.start()
        web.wait()
    assert "VM web" in said
    assert "start the VM" in said


def test_an_unknown_point(site: Site) -> None:
    said = refused(
        site, "restore", livebackup_restore_point=UNKNOWN, livebackup_restore_to="/var/tmp/restored",
        livebackup_restore_vms=[{"vm": "db", "host": "hv1"}],
    )  # fmt: skip
    assert f"point {UNKNOWN}" in said


def test_an_unknown_vm_of_a_point(site: Site, evidence: Evidence) -> None:
    said = refused(
        site, "restore", livebackup_restore_point=evidence.points[-1]["id"],
        livebackup_restore_to="/var/tmp/restored", livebackup_restore_vms=[{"vm": "mail", "host": "hv1"}],
    )  # fmt: skip
    assert "mail" in said


def test_an_unknown_group(site: Site, restore_token: str) -> None:
    result = site.module("hv1", "point_info", receiver_url=site.url, receiver_token=restore_token, group="weekly")
    assert result["failed"]
    assert "weekly" in result["msg"]


def test_an_expired_certificate(site: Site) -> None:
    host = site.lab.host("rcv")
    script = (
        f"cp -a {TLS}/server.pem {TLS}/server.pem.good; cd /tmp; mkdir -p ca; : > ca/index; echo 01 > ca/serial; "
        f"openssl req -new -key {TLS}/server.key -subj /CN=expired -out expired.csr; "
        f"printf '[ca]\ndefault_ca=x\n[x]\ndatabase=ca/index\nserial=ca/serial\nnew_certs_dir=ca\npolicy=p\n[p]\n"
        f"commonName=supplied\n[e]\nsubjectAltName=IP:10.78.0.13\n' > ca.cnf; "
        f"openssl ca -batch -notext -config ca.cnf -extensions e -md sha256 -cert {TLS}/ca.pem -keyfile {TLS}/ca.key "
        f"-startdate 20200101000000Z -enddate 20200201000000Z -in expired.csr -out expired.pem; "
        f"cat expired.pem > {TLS}/server.pem; systemctl restart livebackup-receiver"
    )
    host.run(["sh", "-euc", script])
    try:
        said = refused(site, "backup")
    finally:
        host.run(["sh", "-euc", f"mv {TLS}/server.pem.good {TLS}/server.pem; systemctl restart livebackup-receiver"])
        until(lambda: healthy(site), "the receiver answered again")
    assert "certificate has expired" in said
    assert "receiver" in said


def test_a_full_store_is_refused_before_any_guest_is_touched(site: Site) -> None:
    host = site.lab.host("rcv")
    host.run(["sh", "-euc", f"cp -a {CONFIG} {CONFIG}.good; echo 'min_free_bytes = {1 << 50}' >> {CONFIG}"])
    host.run(["systemctl", "restart", "livebackup-receiver"])
    until(lambda: healthy(site), "the receiver answered again")
    try:
        said = refused(site, "backup")
    finally:
        host.run(["sh", "-euc", f"mv {CONFIG}.good {CONFIG}; systemctl restart livebackup-receiver"])
        until(lambda: healthy(site), "the receiver answered again")
    assert STORE in said
    assert "free" in said


def test_the_next_run_after_all_this_is_incremental_where_the_vm_lived_on(site: Site) -> None:
    point = site.backup()
    levels = {vm["vm"]: {disk["level"] for disk in vm["disks"]} for vm in point["vms"]}
    assert levels == {"db": {"incremental"}, "app": {"incremental"}, "web": {"full"}}


def healthy(site: Site) -> bool:
    """Whether the receiver's service answers on its own host."""
    probe = ["curl", "-sfk", "https://127.0.0.1:8440/api/v1/health"]
    return site.lab.host("rcv").run(probe, check=False).returncode == 0
