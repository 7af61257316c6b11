# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a job that failed is called."""

from __future__ import annotations

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _transfer
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    ReceiverStalled,
    SnapshotBroken,
    TransferError,
)


@pytest.mark.parametrize(
    ("reason", "stalled", "kind", "words"),
    [
        ("Permission denied", False, SnapshotBroken, "give scratch_dir more room"),
        ("Input/output error", False, TransferError, "failed: Input/output error; see the receiver's log"),
        # the connection that we shut down says what it likes
        ("Permission denied", True, ReceiverStalled, "did not take any data for too long"),
        ("it was dismissed", False, TransferError, "it was dismissed"),
    ],
)
def test_reasons(reason: str, stalled: bool, kind: type[TransferError], words: str) -> None:
    error = _transfer.failure("db", "vd-a", reason, stalled)
    assert error.__class__ is kind
    assert error.message.startswith("VM db: ")
    assert words in error.message
    assert error.facts == {"vm": "db", "disk": "vd-a", "reason": reason}
