# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts are machines of their own, and can be killed, stopped, hung and filled."""

from __future__ import annotations

import pytest

from lab import filesystem
from lab.errors import CommandFailed, NotRunning
from lab.lab import Lab


def test_a_host_runs_its_own_systemd(lab: Lab) -> None:
    host = lab.host("hv1")
    assert host.run(["systemctl", "is-system-running"]).stdout == "running\n"
    sandbox = ["--property=DynamicUser=yes", "--property=ProtectSystem=strict", "--property=StateDirectory=x"]
    host.run(["systemd-run", "--wait", "--quiet", *sandbox, "touch", "/var/lib/x/y"])


def test_a_command_that_fails_in_a_host_is_reported(lab: Lab) -> None:
    with pytest.raises(
        CommandFailed,
        match="`ls /absent` on the host rcv failed with exit status 2: ls: cannot access '/absent'",
    ) as raised:
        lab.host("rcv").run(["ls", "/absent"])
    assert raised.value.returncode == 2
    assert lab.host("rcv").run(["cat"], input="given").stdout == "given"
    assert lab.host("rcv").run(["printenv", "A"], env={"A": "b"}).stdout == "b\n"


def test_a_killed_host_loses_its_processes_and_keeps_its_disk(lab: Lab) -> None:
    host = lab.host("rcv")
    host.run(["sh", "-c", "echo kept > /var/lib/kept; echo lost > /run/lost"])
    host.run(["systemd-run", "--quiet", "--unit=busy", "sleep", "infinity"])
    host.kill()
    assert not host.running
    with pytest.raises(NotRunning, match="The host rcv is not running"):
        host.run(["true"])
    host.start()
    host.wait()
    assert host.path("/var/lib/kept").read_text() == "kept\n"
    assert not host.path("/run/lost").exists()
    assert host.run(["systemctl", "is-active", "busy"], check=False).stdout == "inactive\n"
    lab.host("hv1").run(["ping", "-c1", "-W2", host.spec.address])


def test_a_stopped_host_ends_its_services_in_order(lab: Lab) -> None:
    host = lab.host("rcv")
    stop = "--property=ExecStop=/bin/touch /var/lib/ended"
    host.run(["systemd-run", "--quiet", "--unit=polite", stop, "sleep", "infinity"])
    host.stop()
    assert not host.running
    host.start()
    host.wait()
    assert host.path("/var/lib/ended").exists()


def test_the_wheelhouse_can_be_read_but_not_written(lab: Lab) -> None:
    with pytest.raises(CommandFailed, match="Read-only file system"):
        lab.host("hv1").run(["touch", "/srv/wheelhouse/x"])


def test_a_hung_process_does_nothing_until_it_is_let_go(lab: Lab) -> None:
    host = lab.host("hv1")
    counting = "while :; do echo >> /run/count; sleep 0.02; done"
    host.run(["systemd-run", "--quiet", "--unit=counter", "sh", "-c", counting])
    pid = host.main_pid("counter")
    assert pid in host.pids("echo >> /run/count")
    with host.hung(pid):
        assert "T (stopped)" in host.run(["grep", "State", f"/proc/{pid}/status"]).stdout
    assert "T (stopped)" not in host.run(["grep", "State", f"/proc/{pid}/status"]).stdout
    host.run(["systemctl", "stop", "counter"])


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
def test_a_small_file_system_can_be_filled_and_freed(lab: Lab, kind: filesystem.Kind) -> None:
    host = lab.host("rcv")
    with filesystem.mounted(host, "/srv/small", size=300 << 20 if kind == "xfs" else 16 << 20, kind=kind):
        filesystem.fill(host, "/srv/small")
        with pytest.raises(CommandFailed, match="No space left on device"):
            host.run(["dd", "if=/dev/zero", "of=/srv/small/more", "bs=64k", "count=16", "status=none"])
        filesystem.free(host, "/srv/small")
        host.run(["dd", "if=/dev/zero", "of=/srv/small/more", "bs=64k", "count=16", "status=none"])
    assert host.run(["mountpoint", "/srv/small"], check=False).returncode != 0
