# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab with the product deployed, and the main job done once, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo import story
from demo.site import Site
from demo.story import Evidence
from lab.lab import Lab


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    with Lab.up("integration") as lab:
        yield Site(lab)


@pytest.fixture(scope="session")
def evidence(site: Site) -> Evidence:
    """The main job: deployed twice, one full and two increments under writes, every point restored."""
    return story.tell(site, print)
