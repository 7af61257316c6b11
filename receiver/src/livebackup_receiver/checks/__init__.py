# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named checks: can this receiver take backups, and can they be restored?

One list of results for the command line, the API, the page, the metrics and the notifications, so that
they cannot disagree. ``table`` says which there are; ``result`` is what each of them gives.
"""
