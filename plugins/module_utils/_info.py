# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module vm_info does. For internal use of livebackup.qemu only."""

from __future__ import annotations

import asyncio
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _agent, _discovery, _report
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor


def vm_info(params: dict[str, Any], dummy: bool) -> dict[str, Any]:
    """Look at the VMs of this host. Raises LivebackupError if a VM asked for by name cannot be reached."""
    return asyncio.run(_vm_info(params))


async def _vm_info(params: dict[str, Any]) -> dict[str, Any]:
    async with _discovery.discovered(params["qmp_sockets"], params["qmp_timeout"]) as discovery:
        if params["vms"]:
            monitors = _discovery.select(discovery, params["vms"])
        else:
            monitors = [discovery.monitors[name] for name in sorted(discovery.monitors)]
        vms = await asyncio.gather(*map(_look, monitors))
    unreachable = [
        {"socket": socket, "msg": error.message, "error": error.details()}
        for socket, error in discovery.unreachable.items()
    ]
    return {"changed": False, "vms": list(vms), "unreachable": unreachable}


async def _look(monitor: Monitor) -> dict[str, Any]:
    vm = await _discovery.inspect(monitor)
    return _report.vm_info(vm, await _agent.state(vm))
