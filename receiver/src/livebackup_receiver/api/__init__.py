# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTPS API: routes, authentication, errors as JSON."""
