# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs are started in one place, and end."""

from __future__ import annotations

import time

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _process
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import DependencyError, ProgramFailed


async def test_output_and_environment() -> None:
    output = await _process.run(["sh", "-c", "echo $COLOUR $LC_ALL"], env={"COLOUR": "red"})
    assert output == "red C.UTF-8\n"


async def test_a_failure_says_what_was_run_and_what_it_said() -> None:
    with pytest.raises(ProgramFailed, match="no room") as caught:
        await _process.run(["sh", "-c", "echo no room >&2; exit 3"])
    assert "sh -c 'echo no room >&2; exit 3'" in caught.value.message
    assert caught.value.facts["rc"] == 3


async def test_a_program_that_takes_too_long_is_killed_with_its_children() -> None:
    began = time.monotonic()
    with pytest.raises(ProgramFailed, match=r"did not end within 0\.2 seconds"):
        await _process.run(["sh", "-c", "sleep 60 & wait"], timeout=0.2)
    assert time.monotonic() - began < 10


async def test_a_missing_program() -> None:
    with pytest.raises(
        DependencyError, match="program no-such-program cannot be started on this host: No such file"
    ):
        await _process.run(["no-such-program"])
