# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver's certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tls_files import TlsFiles, make_tls_files

from livebackup_receiver.certificate import read_certificate
from livebackup_receiver.errors import ConfigInvalid


def test_the_end_of_a_certificate(tmp_path: Path) -> None:
    files = make_tls_files(tmp_path, lifetime=timedelta(days=30))
    left = read_certificate(files.certificate, files.key).not_after - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)


def test_a_file_that_is_no_certificate(tls: TlsFiles, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(ConfigInvalid, match=r"option tls_certificate: .* are not a certificate"):
        read_certificate(tmp_path / "text", tls.key)


def test_a_key_that_cannot_be_read(tls: TlsFiles, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"option tls_key: .* cannot be read"):
        read_certificate(tls.certificate, tmp_path / "missing.key")
