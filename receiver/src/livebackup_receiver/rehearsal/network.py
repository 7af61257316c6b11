# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a rehearsal: a bridge that the guests' cards are on, and nothing else; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from livebackup_receiver.recovery.plan import Network, RecoveryPlan, mac_of

BRIDGE = "lan"
LEASES = "leases"


@dataclass(frozen=True)
class Card:
    """A card of a VM, on a tap device of the enclosure; ``address`` if it is known."""

    vm: str
    tap: str
    model: str
    mac: str
    address: str | None


def cards_of(plan: RecoveryPlan, vms: Iterable[str]) -> list[Card]:
    """The cards of these VMs; none without a network. With DHCP each has an address."""
    if plan.network is None:
        return []
    wanted = [(vm, number, nic) for vm in vms for number, nic in enumerate(plan.member(vm).boot.nics)]
    taken = {nic.address for each in plan.members for nic in each.boot.nics} | {
        str(plan.network.interface.ip)
    }
    free = (str(each) for each in plan.network.interface.network.hosts() if str(each) not in taken)
    return [
        Card(
            vm=vm,
            tap=f"tap{tap}",
            model=nic.model,
            mac=nic.mac or mac_of(vm, number),
            address=nic.address or (next(free, None) if plan.network.dhcp else None),
        )
        for tap, (vm, number, nic) in enumerate(wanted)
    ]


def address_of(cards: Sequence[Card], vm: str) -> str | None:
    """Where a VM is found."""
    return next((each.address for each in cards if each.vm == vm and each.address), None)


def commands(network: Network, cards: Sequence[Card]) -> Iterator[list[str]]:
    """What makes the network in an enclosure (ip(8)); in this order."""
    yield ["ip", "link", "add", "name", BRIDGE, "type", "bridge"]
    yield ["ip", "link", "set", "dev", BRIDGE, "addrgenmode", "none"]
    yield ["ip", "address", "add", network.address, "dev", BRIDGE]
    yield ["ip", "link", "set", "dev", BRIDGE, "up"]
    for card in cards:
        yield ["ip", "tuntap", "add", "dev", card.tap, "mode", "tap"]
        yield ["ip", "link", "set", "dev", card.tap, "addrgenmode", "none"]
        yield ["ip", "link", "set", "dev", card.tap, "master", BRIDGE, "up"]


def dhcp_command(network: Network, cards: Sequence[Card], directory: str) -> list[str]:
    """A DHCP server that gives each card its address, and nothing to anybody else (dnsmasq(8))."""
    interface = network.interface
    hosts = [f"--dhcp-host={card.mac},{card.address},{card.vm}" for card in cards if card.address]
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        f"--interface={BRIDGE}",
        "--bind-interfaces",
        f"--dhcp-range={interface.ip},static,{interface.netmask}",
        *hosts,
        "--dhcp-authoritative",
        "--no-ping",
        f"--dhcp-leasefile={directory}/{LEASES}",
        "--log-facility=-",
        "--pid-file=",
        "--user=",
        "--group=",
    ]


def way_out(links: Sequence[Any], routes: Sequence[Any], cards: Sequence[Card]) -> str | None:
    """What leads out of an enclosure, of all that ``ip -json`` shows there; None: nothing does."""
    known = {"lo", BRIDGE, *(card.tap for card in cards)}
    for link in links:
        if link["ifname"] not in known or "link" in link or "link_netnsid" in link:
            return f"the link {link['ifname']}"
    for route in routes:
        if "gateway" in route or route.get("dev") not in known:
            return f"the route to {route['dst']}"
    return None
