# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The coordinator of sessions: state machines, levels, barriers, commit or abort."""
