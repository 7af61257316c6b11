# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains of qcow2 layers: read as one disk, merged, and freed of what nobody reads, without moving data.

``image`` reads the tables of one file, ``fold`` lays several over each other, ``merge`` and ``append`` make
one layer of many, ``punch`` frees what is masked, ``flat`` reads a whole chain. The format is described in
QEMU's ``docs/interop/qcow2.txt``, whose names are used here.
"""
