# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status page for people: server-rendered HTML, kept live by server-sent events."""
