# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The receiver's lease on a point that a VM reads from. For internal use of livebackup.qemu only.

While it lives the point is kept. Its secret opens exports of the VM's disks and nothing else, so a hypervisor
needs to keep no token.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _tender
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverError, ReceiverRefused
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._tender import Tender

_GONE = "lease-unknown"


def take(
    receiver: Receiver,
    params: dict[str, Any],
    tender: Tender,
    disks: dict[str, int],
    owner: tuple[int, int] | None,
) -> dict[str, Any]:
    """Have the receiver keep the point, and write down what the tender needs.

    ``disks`` are sizes in bytes by name. Raises ReceiverError, OptionError.
    """
    lease = _lease(receiver, params, list(disks))
    try:
        facts = {
            **_whereabouts(params),
            "name": tender.vm,
            "vm": params["vm"],
            "point": params["point"],
            "dest": os.path.realpath(params["dest"]),
            "disks": disks,
            "socket": tender.socket,
            "owner": owner,
            "lease": lease["id"],
            "secret": lease["secret"],
            "stall_s": _tender.STALL_SECONDS,
            "limit_s": _tender.LIMIT_SECONDS,
        }
        _tender.write(tender, facts)
    except BaseException:
        with contextlib.suppress(ReceiverError):
            receiver.delete(f"/leases/{lease['id']}")
        raise
    return facts


async def keep(
    receiver: Receiver, params: dict[str, Any], tender: Tender, known: dict[str, Any], warnings: list[str]
) -> None:
    """Take another lease if the receiver has ended ours, which it does after weeks without a use.

    A tender that must know something else than before, where the receiver is for example, is ended.
    """
    now = {**known, **_whereabouts(params)}
    try:
        if all(lease["id"] != known["lease"] for lease in receiver.get("/leases")["leases"]):
            lease = _lease(receiver, params, list(known["disks"]))
            now.update(lease=lease["id"], secret=lease["secret"])
    except ReceiverRefused:
        raise
    except ReceiverError as error:
        warnings.append(f"{error.message} VM {tender.vm} goes on when it is back.")
        return
    if now != known:
        known.update(now)
        _tender.write(tender, known)
        await _tender.stop(tender)


def _whereabouts(params: dict[str, Any]) -> dict[str, Any]:
    with open(params["receiver_ca_path"], encoding="ascii") as file:
        authority = file.read()
    names = ("receiver_url", "qmp_sockets")
    return {"ca": authority, **{name: params[name] for name in names}}


def release(tender: Tender, known: dict[str, Any]) -> None:
    """Leave the point to the policies, with the lease's own secret. Raises ReceiverError."""
    authority = os.path.join(tender.state, "ca.pem")
    with open(authority, "w", encoding="ascii") as file:
        file.write(known["ca"])
    receiver = Receiver(
        url=known["receiver_url"],
        token=known["secret"],
        token_from=tender.parameters,
        ca_path=authority,
        timeout=_tender.LIMIT_SECONDS,
    )
    try:
        receiver.delete(f"/leases/{known['lease']}")
    except ReceiverRefused as error:
        if error.code != _GONE:
            raise
    finally:
        receiver.close()


def _lease(receiver: Receiver, params: dict[str, Any], disks: list[str]) -> dict[str, Any]:
    body = {"vm": params["vm"], "disks": disks, "holder": socket.gethostname()}
    return receiver.post(f"/points/{params['point']}/leases", body, idempotent=False)
