# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery plans for tests."""

from __future__ import annotations

from typing import Any

THREE: dict[str, Any] = {
    "members": [
        {
            "vm": "db",
            "boot": {"memory_mib": 2048, "nics": [{"address": "10.0.0.2"}]},
            "ready": {"agent": True, "timeout_s": 120},
            "checks": [{"name": "sql", "command": ["pg_isready"]}, {"name": "port", "tcp": 5432}],
        },
        {
            "vm": "app",
            "after": ["db"],
            "checks": [{"name": "page", "http": "http://10.0.0.3:8080/health", "text": "ok"}],
        },
        {"vm": "batch", "after": ["app", "db"], "ready": {"console": "batch is idle"}},
    ],
    "network": {"address": "10.0.0.1/24", "dhcp": True},
    "schedule": "daily at 04:00",
    "time_zone": "Europe/Berlin",
}
"""The application comes after its data base, and batch jobs after both."""
