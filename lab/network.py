# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the lab's network: partitions, a pulled cable, a slow line, all in the box's own namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab import topology
from lab.box import Box
from lab.topology import CONTROLLER

TABLE = "livebackup_lab"


class Network:
    """The bridge that joins the hosts of one lab, and the controller."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def partition(self, one: str, other: str) -> None:
        """Drop all traffic between two hosts, or between a host and `controller`, both ways."""
        self.box.run(["nft", "-f", "-"], input=partition_rules(one, other))

    def heal(self) -> None:
        """End every partition."""
        self.box.run(["nft", "-f", "-"], input=f"add table bridge {TABLE}\ndelete table bridge {TABLE}\n")

    @contextmanager
    def partitioned(self, one: str, other: str) -> Iterator[None]:
        self.partition(one, other)
        try:
            yield
        finally:
            self.heal()

    def partitions(self) -> list[str]:
        """The rules now in force, as nft words them."""
        rules = self.box.run(["nft", "list", "table", "bridge", TABLE], check=False).stdout
        return [line.strip() for line in rules.splitlines() if line.strip().endswith("drop")]

    def link(self, host: str, *, up: bool) -> None:
        """Plug in or pull the cable of a host."""
        self.box.run(["ip", "link", "set", topology.host(host).port, "up" if up else "down"])

    @contextmanager
    def unplugged(self, host: str) -> Iterator[None]:
        self.link(host, up=False)
        try:
            yield
        finally:
            self.link(host, up=True)

    def link_is_up(self, host: str) -> bool:
        shown = self.box.run(["ip", "-o", "link", "show", topology.host(host).port], check=False).stdout
        return ",UP" in shown

    def throttle(self, host: str, rate: str | None) -> None:
        """Limit what reaches a host to `rate` (tc's words, such as `10mbit`); None lifts the limit."""
        port = topology.host(host).port
        self.box.run(["tc", "qdisc", "del", "dev", port, "root"], check=False)
        if rate:
            shape = f"tc qdisc add dev {port} root tbf rate {rate} burst 64kb latency 200ms"
            self.box.run(shape.split())

    @contextmanager
    def throttled(self, host: str, rate: str) -> Iterator[None]:
        self.throttle(host, rate)
        try:
            yield
        finally:
            self.throttle(host, None)


def partition_rules(one: str, other: str) -> str:
    """An nft script that drops everything between two of the lab's hosts."""
    chains = [f"add table bridge {TABLE}"]
    for hook in ("forward", "input", "output"):
        chains.append(f"add chain bridge {TABLE} cut_{hook} {{ type filter hook {hook} priority 0; }}")
    if CONTROLLER not in (one, other):
        ports = topology.host(one).port, topology.host(other).port
        rules = [f"cut_forward iifname {a} oifname {b} drop" for a, b in (ports, ports[::-1])]
    else:
        port = topology.host(other if one == CONTROLLER else one).port
        rules = [f"cut_input iifname {port} drop", f"cut_output oifname {port} drop"]
    return "\n".join([*chains, *(f"add rule bridge {TABLE} {rule}" for rule in rules), ""])
