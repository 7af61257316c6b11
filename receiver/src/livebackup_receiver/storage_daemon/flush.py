# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof that everything sent is on the disk: the receiver's own NBD FLUSH on every export.

A client's job that ends without an error proves nothing, and QEMU does not report a flush that fails
when a node is closed. libnbd waits for ever on a hung server, so it runs in a process that can be
killed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from livebackup_receiver import subprocesses

# Names of exports and the key's path come by standard input, where other users cannot see them.
SCRIPT = """
import json, sys
for uri in json.load(sys.stdin):
    client = nbd.NBD()
    client.set_uri_allow_local_file(True)
    client.connect_uri(uri)
    client.flush()
    client.shutdown()
"""


async def flush(uris: Sequence[str], *, timeout_s: float) -> None:
    """Flush every export to the disk.

    :param uris: NBD URIs of the exports
    :raise CommandFailed: a flush failed
    :raise CommandTimedOut: they took longer than ``timeout_s`` together
    """
    await subprocesses.run(["nbdsh", "-n", "-c", SCRIPT], stdin=json.dumps(list(uris)), timeout_s=timeout_s)
