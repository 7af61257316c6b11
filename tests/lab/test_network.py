# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions, pulled cables and slow lines really stop and slow traffic, and healing brings it back."""

from __future__ import annotations

import time

import pytest

from lab.errors import UnknownName
from lab.lab import Lab
from lab.network import partition_rules
from lab.waiting import until


def reaches(lab: Lab, host: str, address: str) -> bool:
    return lab.host(host).run(["ping", "-c1", "-W1", address], check=False).returncode == 0


def reaches_again(lab: Lab, host: str, address: str) -> bool:
    """It takes the kernel a second or two to ask again for an address that did not answer."""
    return until(lambda: reaches(lab, host, address), f"{host} reached {address}", timeout=10)


def test_a_partition_cuts_two_hosts_and_nobody_else(lab: Lab) -> None:
    with lab.network.partitioned("hv1", "hv2"):
        assert not reaches(lab, "hv1", "10.78.0.12")
        assert not reaches(lab, "hv2", "10.78.0.11")
        assert reaches_again(lab, "hv1", "10.78.0.13")
        assert reaches_again(lab, "hv2", "10.78.0.1")
    assert reaches_again(lab, "hv1", "10.78.0.12")
    assert lab.network.partitions() == []


def test_a_host_can_be_cut_from_the_controller(lab: Lab) -> None:
    with lab.network.partitioned("controller", "rcv"):
        assert not reaches(lab, "rcv", "10.78.0.1")
        assert reaches_again(lab, "rcv", "10.78.0.11")
    assert reaches_again(lab, "rcv", "10.78.0.1")


def test_two_partitions_hold_at_once(lab: Lab) -> None:
    with lab.network.partitioned("hv1", "rcv"):
        lab.network.partition("hv2", "rcv")
        assert not reaches(lab, "rcv", "10.78.0.11")
        assert not reaches(lab, "rcv", "10.78.0.12")
    assert reaches_again(lab, "rcv", "10.78.0.12")


def test_a_pulled_cable_cuts_a_host_from_everyone(lab: Lab) -> None:
    with lab.network.unplugged("hv2"):
        assert not reaches(lab, "hv2", "10.78.0.11")
        assert not lab.network.link_is_up("hv2")
    assert reaches_again(lab, "hv2", "10.78.0.11")


def test_a_slow_line_is_slow(lab: Lab) -> None:
    sender, receiver = lab.host("hv1"), lab.host("rcv")
    sender.run(["truncate", "-s", "2M", "/srv/two-mebibytes"])
    sender.run(["systemd-run", "--quiet", "--unit=source", "python3", "-m", "http.server", "9001"])
    sender.run(["sh", "-c", "until ss -Hltn sport = :9001 | grep -q .; do sleep 0.05; done"])
    fetch = ["curl", "-sSf", "-o", "/dev/null", "http://10.78.0.11:9001/srv/two-mebibytes"]
    with lab.network.throttled("rcv", "8mbit"):
        began = time.monotonic()
        receiver.run(fetch)
        slow = time.monotonic() - began
    began = time.monotonic()
    receiver.run(fetch)
    sender.run(["systemctl", "stop", "source"])
    assert time.monotonic() - began < 1.5 < slow


def test_partition_rules_name_both_directions() -> None:
    rules = partition_rules("hv1", "rcv")
    assert "iifname v-hv1 oifname v-rcv drop" in rules
    assert "iifname v-rcv oifname v-hv1 drop" in rules
    with pytest.raises(UnknownName):
        partition_rules("hv1", "nobody")
