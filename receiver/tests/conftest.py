# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver to test: its configuration, its parts, and one that really serves HTTPS."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import file_systems
import pytest
from sample_store import SampleStore
from serving import Served, serving
from tls_files import TlsFiles, make_tls_files

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.state import Receiver


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for 127.0.0.1 that signs itself."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def sharing_file_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An XFS, on which merging moves no data."""
    with file_systems.sharing_file_system(tmp_path_factory.mktemp("sharing")) as mount:
        yield mount


@pytest.fixture
def sharing_path(sharing_file_system: Path) -> Iterator[Path]:
    """A new directory on a file system whose files can share extents."""
    with tempfile.TemporaryDirectory(dir=sharing_file_system) as path:
        yield Path(path)


@pytest.fixture(scope="session")
def browse_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the system of throw-away guests is made, once for all tests."""
    return tmp_path_factory.mktemp("browse")


@pytest.fixture
def config(tmp_path: Path, tls: TlsFiles, browse_cache: Path) -> Config:
    """A receiver of its own on loopback, with a store that is never full."""
    (tmp_path / "store").mkdir()
    return Config(
        store=tmp_path / "store",
        listen_host="127.0.0.1",
        listen_port=0,
        tls_certificate=tls.certificate,
        tls_key=tls.key,
        nbd_listen="127.0.0.1",
        nbd_ports="21000-21199",
        min_free_bytes=0,
        browse_cache=browse_cache,
    )


@pytest.fixture
def catalog(config: Config) -> Iterator[Catalog]:
    """The migrated catalog of that configuration, with no receiver running."""
    with open_catalog(config.database_url) as catalog:
        yield catalog


@pytest.fixture
def store(config: Config, catalog: Catalog) -> SampleStore:
    """The store of that configuration, with real layers in it as soon as points are added."""
    return SampleStore(config.store, catalog)


@pytest.fixture
async def receiver(config: Config) -> AsyncIterator[Receiver]:
    """The parts of a running receiver, without its HTTP server."""
    async with open_receiver(config) as receiver:
        yield receiver


@pytest.fixture
async def server(receiver: Receiver, tls: TlsFiles) -> AsyncIterator[Served]:
    """A receiver that serves HTTPS on a free port."""
    async with serving(receiver, tls) as served:
        yield served
