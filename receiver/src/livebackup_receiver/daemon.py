# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs, in order: open the catalog, recover, serve, and stop in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta

import uvicorn

from livebackup_receiver.api.app import create_app
from livebackup_receiver.browse.live import open_browses
from livebackup_receiver.catalog.engine import open_catalog
from livebackup_receiver.catalog.journal import open_journal
from livebackup_receiver.catalog.presence import require_catalog, require_layers
from livebackup_receiver.chain.keyring import using
from livebackup_receiver.check_watch import open_check_watch
from livebackup_receiver.clock import now
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.turns import Turns
from livebackup_receiver.consolidation.worker import Consolidation, open_consolidator
from livebackup_receiver.coordinator.conduct import Stage
from livebackup_receiver.coordinator.recovery import recover
from livebackup_receiver.coordinator.registry import open_sessions
from livebackup_receiver.encryption import read_keys
from livebackup_receiver.errors import ConfigInvalid
from livebackup_receiver.events import Feed
from livebackup_receiver.exports import open_exports
from livebackup_receiver.leases import LiveLeases, sweep_leases
from livebackup_receiver.notifications import open_notifier
from livebackup_receiver.rehearsal.worker import Rehearsing, open_rehearser
from livebackup_receiver.retention.local import LocalRetention
from livebackup_receiver.retention.rounds import open_rounds
from livebackup_receiver.scrub.worker import open_scrubber
from livebackup_receiver.state import Receiver
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.store import durable
from livebackup_receiver.store.format import ensure_format
from livebackup_receiver.store.lock import hold_store
from livebackup_receiver.store.paths import Store
from livebackup_receiver.web.logins import Logins

log = logging.getLogger(__name__)

# Every request has been answered by then; a client that does not read would keep its connection.
SHUTDOWN_S = 2
# A participant keeps its connection between steps, and a transfer reports once a second.
KEEP_ALIVE_S = 75
BACKLOG = 512
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(config: Config) -> None:
    """Run the receiver until SIGTERM or SIGINT.

    :raise ConfigInvalid: certificate or key cannot be read, or a key of encrypted layers
    :raise CatalogFailed: the catalog cannot be opened
    :raise CatalogLost: it is empty, and the store is not
    :raise StoreBusy: another receiver works in the store
    :raise StoreUnsupported: the store is of a newer format
    """
    logging.basicConfig(level=config.log_level, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(_serve(config))


@asynccontextmanager
async def open_receiver(config: Config) -> AsyncIterator[Receiver]:
    """A receiver that has recovered and can work; open sessions are aborted when the block ends."""
    store = Store(config.store)
    durable.make_directory(store.vms)
    durable.make_directory(store.run)
    async with AsyncExitStack() as stack:
        stack.enter_context(using(read_keys(config)))
        for volume in (config.store, *config.volumes):
            stack.enter_context(hold_store(volume))
        ensure_format(store)
        catalog = stack.enter_context(open_catalog(config.database_url))
        require_catalog(catalog, store)
        require_layers(catalog, store)
        recover(catalog, store, now=now())
        feed = Feed()
        stack.callback(feed.close)
        ports = PortRange(config.ports)
        journal = await stack.enter_async_context(open_journal(catalog))
        turns = Turns()
        stage = Stage(config=config, store=store, catalog=catalog, journal=journal, ports=ports, turns=turns)
        notifier = await stack.enter_async_context(open_notifier(config, feed))
        sessions = await stack.enter_async_context(open_sessions(stage, feed))
        consolidation = Consolidation(store, catalog, None, max_depth=config.max_chain_depth)
        consolidator = await stack.enter_async_context(
            open_consolidator(consolidation, turns, config, sessions.every)
        )
        retention = LocalRetention(catalog, store)
        if config.retention_automatic:
            await stack.enter_async_context(open_rounds(retention, feed, sessions.every, consolidator.wake))
        await stack.enter_async_context(open_scrubber(store, catalog, config, sessions.every))
        sweep_leases(store)
        exports = await stack.enter_async_context(open_exports(config, ports))
        rehearsing = Rehearsing(store, catalog, config, sessions.every)
        yield Receiver(
            config=config,
            store=store,
            catalog=catalog,
            feed=feed,
            ports=ports,
            sessions=sessions,
            consolidator=consolidator,
            retention=retention,
            exports=exports,
            leases=LiveLeases(store, exports, timedelta(seconds=config.lease_ttl_s)),
            browses=await stack.enter_async_context(open_browses(config)),
            checks=await stack.enter_async_context(
                open_check_watch(config, catalog, sessions.every, notifier.tell_of_checks)
            ),
            rehearser=await stack.enter_async_context(open_rehearser(rehearsing)),
            logins=Logins(),
        )


class Server(uvicorn.Server):
    """Uvicorn, which waits for requests to end; so that they do, sessions are aborted first."""

    def __init__(self, config: uvicorn.Config, receiver: Receiver) -> None:
        super().__init__(config)
        self._receiver = receiver

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal; uvicorn's own way would end the process before the receiver is closed."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            notify_service_manager("READY=1")
            log.info("ready on %s port %s", self.config.host, self.config.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify_service_manager("STOPPING=1")
        await self._receiver.sessions.stop()
        self._receiver.feed.close()
        asyncio.get_running_loop().call_later(SHUTDOWN_S, self._hang_up)
        await super().shutdown(sockets)

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def server_of(receiver: Receiver) -> Server:
    """The HTTPS server of a receiver, not yet started.

    :raise ConfigInvalid: certificate or key cannot be used
    """
    config = receiver.config
    options = uvicorn.Config(
        create_app(receiver),
        host=config.listen_host,
        port=config.listen_port,
        ssl_certfile=str(config.tls_certificate),
        ssl_keyfile=str(config.tls_key),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    try:
        options.load()
    except OSError as error:
        raise ConfigInvalid(
            "tls_certificate", f"it or its key cannot be read ({error})", "name readable PEM files that match"
        ) from None
    return Server(options, receiver)


def notify_service_manager(message: str) -> None:
    """Tell systemd, if it has started us and asked for it (Type=notify)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        address = "\0" + path[1:] if path.startswith("@") else path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(message.encode(), address)


def listen(config: Config) -> socket.socket:
    """The socket of the HTTPS server.

    :raise ConfigInvalid: the address or port cannot be used
    """
    family = socket.AF_INET6 if ":" in config.listen_host else socket.AF_INET
    address = (config.listen_host, config.listen_port)
    try:
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        problem = f"{address[0]} port {address[1]} cannot be used ({error.strerror})"
        raise ConfigInvalid(
            "listen_port", problem, "choose another, or stop the program that has it"
        ) from None
    # asyncio sets it only on sockets that say their protocol; without it each answer waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def _serve(config: Config) -> None:
    async with open_receiver(config) as receiver:
        with listen(config) as sock:
            await server_of(receiver).serve([sock])
