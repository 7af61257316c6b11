# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing the disks of a point into files: all of them or none, and on from where a killed run has ended.

``partial`` decides what of an earlier run can be kept, ``targets`` looks at where files shall go, ``delta``
takes from an older copy what is still right, ``disk`` writes one disk and ``act`` all of a plan. Nothing
appears under its name before every disk is complete, compared with the digests of the point, and durable.
"""
