# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks: ratios measured side by side in one run, never timed tests."""
