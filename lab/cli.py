# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab: `python -m lab VERB`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lab import lab, topology
from lab.errors import LabError
from lab.lab import Lab
from lab.status import Row, rows
from lab.topology import DEFAULT_HOSTS

app = typer.Typer(
    help="Hosts, a network and virtual machines to try Livebackup with, inside private namespaces.",
    no_args_is_help=True,
    add_completion=False,
)
RAW = {"ignore_unknown_options": True, "allow_interspersed_args": False}


class LinkState(StrEnum):
    UP = "up"
    DOWN = "down"


HostOrVm = Annotated[str, typer.Argument(metavar="HOST|VM", help="Name of a host or a virtual machine.")]
Command = Annotated[list[str] | None, typer.Argument(metavar="CMD...", help="The command and its arguments.")]


def main() -> None:
    """Run the command line; the one place where an error becomes a sentence and an exit status."""
    try:
        app()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@app.command()
def up(
    hosts: Annotated[str, typer.Option(help="Names of the hosts, with commas.")] = ",".join(DEFAULT_HOSTS),
    vms: Annotated[bool, typer.Option(help="Start the virtual machines that live on these hosts.")] = True,
) -> None:
    """Bring the lab up, building what it needs first. What is up already is left alone."""
    Lab().start(hosts.split(","), vms=vms)


@app.command()
def down(
    every: Annotated[bool, typer.Option("--all", help="Every lab of this checkout.")] = False,
) -> None:
    """End the lab and wipe its state."""
    for name in lab.names() if every else [None]:
        Lab(name).down()


@app.command()
def build() -> None:
    """Build the hosts' root tree and the guest, and start nothing."""
    lab.build()


@app.command()
def status() -> None:
    """Show hosts and virtual machines, their state and addresses."""
    current = Lab()
    table = Table(*(column.capitalize() for column in Row._fields), title=f"Lab {current.name}")
    for row in rows(current):
        table.add_row(*row)
    Console().print(table)


@app.command(context_settings=RAW)
def shell(host: Annotated[str, typer.Argument(help="Name of a host.")], command: Command = None) -> None:
    """Run a command as root in a host, or a shell."""
    Lab().host(host).become(command or ["bash", "-l"])


@app.command(context_settings=RAW, name="exec")
def execute(command: Command = None) -> None:
    """Run a command on the controller: this machine's files, the lab's network."""
    Lab().box.become(command or ["bash"])


@app.command()
def partition(
    one: Annotated[str, typer.Argument(help="A host, or `controller`.")],
    other: Annotated[str, typer.Argument(help="A host, or `controller`.")],
) -> None:
    """Drop all traffic between two hosts."""
    Lab().network.partition(one, other)


@app.command()
def heal() -> None:
    """End every partition."""
    Lab().network.heal()


@app.command()
def link(
    host: Annotated[str, typer.Argument(help="Name of a host.")],
    state: Annotated[LinkState, typer.Argument(help="up or down")],
) -> None:
    """Plug in or pull the cable of a host."""
    Lab().network.link(host, up=state is LinkState.UP)


@app.command()
def kill(name: HostOrVm) -> None:
    """Cut the power of a host, or SIGKILL the QEMU of a virtual machine."""
    if name in topology.VMS:
        Lab().vm(name).kill()
    else:
        Lab().host(name).kill()


@app.command()
def start(name: HostOrVm) -> None:
    """Boot a host or a virtual machine again, with the disks it had."""
    machine = Lab().vm(name) if name in topology.VMS else Lab().host(name)
    machine.start()
    machine.wait()
