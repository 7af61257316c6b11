# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of rehearsals have simulated processors: a KVM that is itself simulated is slower."""

from __future__ import annotations

import pytest

from livebackup_receiver.config import Config


@pytest.fixture
def config(config: Config) -> Config:
    return config.model_copy(update={"rehearsal_accelerators": ["tcg"]})
