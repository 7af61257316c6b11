#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Choose the disks that are backed up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tracking
short_description: Choose which disks of running QEMU VMs are backed up
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - Places a marker, the disabled dirty bitmap C(livebackup:tracked), on each chosen disk. Backups take the
    disks that carry it and no others. The marker itself records nothing and costs nothing.
  - Removing a disk from tracking also removes all other bitmaps of Livebackup from it, so that a later backup
    of the disk must compare it with its last point, or copy it in full. The bitmaps of other programs are never touched.
  - A marker that became inconsistent because QEMU was killed is replaced.
  - Bitmaps are written into the image when QEMU ends in an orderly way. A marker placed in a QEMU process
    that is then killed is lost, so it is good practice to run this module before every backup.
  - Does not back up anything; see M(livebackup.qemu.backup).
extends_documentation_fragment:
  - livebackup.qemu._attributes
  - livebackup.qemu._attributes.qmp_group
  - livebackup.qemu._qmp
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - With V(present) the chosen disks are tracked.
      - With V(absent) they are not, and carry no bitmap of Livebackup.
    type: str
    choices:
      - present
      - absent
    default: present
  vms:
    description:
      - Names of the VMs.
      - If not given, all VMs of the host are meant.
    type: list
    elements: str
    aliases:
      - vm
  disks:
    description:
      - Names of the disks, as M(livebackup.qemu.vm_info) shows them. Each VM must have all of them.
      - If not given, all disks of each VM are meant, without read-only ones.
    type: list
    elements: str
  exclude:
    description:
      - Names of disks that are left alone. Each VM must have all of them.
    type: list
    elements: str
  granularity:
    description:
      - Bytes per bit of the disk's checkpoint bitmaps, a power of two of at least 512.
      - 65536 suits all disks, because data is copied in units of at least that size.
      - Changing it replaces the marker and counts for bitmaps of later backups.
    type: int
    default: 65536
  transient:
    description:
      - Allows tracking of disks whose image cannot store bitmaps, such as raw disks and qcow2 images of
        version 2. Their tracking is lost each time the VM stops; they must then be tracked again, and a full
        backup follows.
      - Without it, such a disk is an error. Disks that can store bitmaps store them either way.
    type: bool
    default: false
seealso:
  - module: livebackup.qemu.vm_info
  - module: livebackup.qemu.backup
"""

EXAMPLES = r"""
- name: Back up all disks of all VMs of the hypervisor
  livebackup.qemu.tracking:

- name: Back up the VM db without its swap disk
  livebackup.qemu.tracking:
    vm: db
    exclude:
      - vd-swap

- name: Accept full backups after each stop of a VM with raw disks
  livebackup.qemu.tracking:
    vm: legacy
    transient: true

- name: See what would change
  livebackup.qemu.tracking:
    vm: db
  check_mode: true
  diff: true

- name: Back up one disk no longer
  livebackup.qemu.tracking:
    vm: app
    disks:
      - vd-cache
    state: absent
"""

RETURN = r"""
vms:
  description: The VMs and their chosen disks as they are now, or would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    vm:
      description: Name of the VM.
      type: str
      sample: db
    disks:
      description: The chosen disks; the keys are those of RV(livebackup.qemu.vm_info#module:vms[].disks[]).
      type: list
      elements: dict
      sample:
        - disk: vd-a
          node: disk-a
          tracked: true
          persistent: true
          granularity: 65536
          bitmaps:
            - name: livebackup:tracked
              persistent: true
              recording: false
qmp_commands:
  description: The QMP commands that made the change, with the VM each was sent to. Empty in check mode.
  returned: success
  type: list
  elements: dict
  sample:
    - vm: db
      execute: transaction
      arguments:
        actions:
          - type: block-dirty-bitmap-add
            data:
              node: disk-a
              name: livebackup:tracked
              granularity: 65536
              persistent: true
              disabled: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import _module, _qmp, _tracking


def main() -> None:
    """Docs above, work in module_utils/_tracking.py."""
    module = AnsibleModule(
        argument_spec={
            **_qmp.ARGUMENTS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "vms": {"type": "list", "elements": "str", "aliases": ["vm"]},
            "disks": {"type": "list", "elements": "str"},
            "exclude": {"type": "list", "elements": "str"},
            "granularity": {"type": "int", "default": 65536},
            "transient": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    _module.run(module, _tracking.tracking, needs_qmp=True)


if __name__ == "__main__":
    main()
