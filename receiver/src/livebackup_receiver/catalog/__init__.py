# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of sessions, points and tokens: SQLAlchemy models, migrations, queries."""
