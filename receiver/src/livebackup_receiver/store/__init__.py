# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the store: paths, durable writes, manifests, integrity, room."""
