# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rehearsal as a process of its own, which a receiver starts; what it is to do comes on stdin."""

from __future__ import annotations

import asyncio
import sys

from livebackup_receiver.catalog.presence import open_present
from livebackup_receiver.chain.keyring import using
from livebackup_receiver.config import Config
from livebackup_receiver.encryption import read_keys
from livebackup_receiver.errors import ReceiverError
from livebackup_receiver.rehearsal.conduct import order_of, rehearse
from livebackup_receiver.rehearsal.orders import Orders


def main() -> None:
    """Do what is ordered, and keep the result; an error of ours is one line on stderr."""
    orders = Orders.model_validate_json(sys.stdin.buffer.read())
    config = Config(**orders.config)
    try:
        with using(read_keys(config)), open_present(config) as catalog:
            order = order_of(catalog, orders.id, orders.point, orders.vms)
            asyncio.run(rehearse(order, config, catalog, lambda dummy: None))
    except ReceiverError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
