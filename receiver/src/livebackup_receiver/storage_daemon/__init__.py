# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One qemu-storage-daemon per session: process, layers, exports, flush."""
