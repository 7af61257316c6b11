# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `KEEP=1 make demo` leaves running: the lab, and its status page on this machine's loopback."""

from __future__ import annotations

import json

from demo.site import ROOT, Site
from lab.box import spawn

PORT = 8440


def show(site: Site) -> str:
    """Make the page reachable from this machine; gives how to open it and how to stop everything."""
    forward(site)
    made = site.receiver("token", "create", "--name", "kept", "--role", "read", "--json")
    token = json.loads(made.stdout)["token"]
    return (
        f"kept: the status page is https://127.0.0.1:{PORT}/ (its certificate is the lab's own); "
        f"log in with the token {token}\n"
        f"kept: stop everything with: make lab-down LIVEBACKUP_LAB={site.lab.name}"
    )


def forward(site: Site) -> None:
    """Carry connections from the loopback into the lab's network; it ends with the lab."""
    box = site.lab.box
    address = site.lab.host("rcv").spec.address
    # Within EXEC a colon of the command itself wants a backslash.
    inside = rf"nsenter --target={box.pid} --net socat STDIO TCP\:{address}\:8440"
    listen = f"TCP-LISTEN:{PORT},bind=127.0.0.1,reuseaddr,fork"
    spawn(box.cgroup / "forward", ["socat", listen, f"EXEC:{inside}"], ROOT / "build/demo/forward.log")
