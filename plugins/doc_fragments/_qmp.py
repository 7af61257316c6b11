# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of module_utils/_qmp.py, and the requirements of module_utils/_deps.py."""

from __future__ import annotations


class ModuleDocFragment:
    """How to reach the VMs of the host the task runs on."""

    DOCUMENTATION = r"""
options:
  qmp_sockets:
    description:
      - Paths or shell patterns of the QMP sockets of this host's VMs.
      - A path without wildcards must exist; a pattern may match nothing.
      - QEMU serves one client at a time on a QMP socket. If libvirt or another program holds the VM's
        monitor, start the VM with a second QMP socket for Livebackup.
      - The VM's name is what QEMU was started with as C(-name), else the name of the socket without its
        suffix.
    type: list
    elements: path
    default:
      - /run/qemu/*.qmp
  qmp_timeout:
    description:
      - Seconds to wait for the greeting of a QMP socket before it counts as busy.
    type: float
    default: 5.0
requirements:
  - Python 3.11 or newer on the host the task runs on
  - "Python library qemu.qmp >= 0.0.6 on the host the task runs on. If the task's Python has none, the module
    uses that of the virtual environment C(/opt/livebackup/venv), which the role
    P(livebackup.qemu.hypervisor#role) makes."
  - QEMU 7.2 or newer
"""
