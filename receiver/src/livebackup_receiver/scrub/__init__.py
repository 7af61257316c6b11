# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading layers back, long after they were received: is what lies on the disk still what it was?

``choice`` decides what is read today and ``harm`` which points a damaged layer hurts, both from data alone;
``reading`` reads one layer, ``act`` keeps what was found, ``worker`` goes on for ever. What is damaged is
in ``quarantine``: a disk is never backed up onto it, but compared with what is really there, so that the
next backup sends again what is damaged. ``health`` tells people.
"""
