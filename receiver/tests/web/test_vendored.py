# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vendored scripts are those of the packages, unchanged."""

from __future__ import annotations

import hashlib

import pytest

from livebackup_receiver.web.answers import HERE

DIGESTS = {
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "htmx-ext-sse.min.js": "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
}
VENDOR = HERE / "static" / "vendor"


@pytest.mark.parametrize("name", DIGESTS)
def test_a_vendored_script_is_unchanged(name: str) -> None:
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("name", DIGESTS)
def test_a_vendored_script_is_listed_and_brings_its_licence(name: str) -> None:
    licence = VENDOR / name.replace(".min.js", ".LICENSE.txt")
    assert f"`{name}`" in (VENDOR / "VENDORED.md").read_text()
    assert "Permission to use, copy, modify" in licence.read_text()
