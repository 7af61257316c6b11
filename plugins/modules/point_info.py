#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Show restore points."""

from __future__ import annotations

DOCUMENTATION = r"""
module: point_info
short_description: Show the restore points of a receiver
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - Shows one restore point by its id, or lists restore points, newest first, with the VMs and disks each of
    them holds.
  - Reads the receiver's catalog. It does not check the layers' contents.
extends_documentation_fragment:
  - livebackup.qemu._attributes
  - livebackup.qemu._attributes.info_module
  - livebackup.qemu._attributes.receiver_group
  - livebackup.qemu._receiver
options:
  id:
    description:
      - Id of the restore point to show.
      - Mutually exclusive with O(group) and O(vm).
    type: str
    aliases:
      - point
  group:
    description:
      - List only points of this group.
    type: str
  vm:
    description:
      - List only points that hold this VM.
    type: str
  limit:
    description:
      - List at most so many.
    type: int
    default: 100
  recovery_order:
    description:
      - Shows of each restore point, too, in which order its VMs are brought up, as the recovery plan of its group
        declares.
    type: bool
    default: false
seealso:
  - module: livebackup.qemu.policy
  - module: livebackup.qemu.recovery_plan
  - module: livebackup.qemu.restore
  - module: livebackup.qemu.session_info
"""

EXAMPLES = r"""
- name: Find the newest restore point of a VM
  livebackup.qemu.point_info:
    receiver_url: https://backup.example.com:8440
    vm: db
    limit: 1
  register: newest

- name: Fail if it is older than a day
  ansible.builtin.assert:
    that: >-
      (newest.points[0].cut_at | to_datetime('%Y-%m-%dT%H:%M:%S.%f%z')).timestamp()
      > now().timestamp() - 86400
    fail_msg: "The newest restore point of db is of {{ newest.points[0].cut_at }}"

- name: Show one restore point
  livebackup.qemu.point_info:
    receiver_url: https://backup.example.com:8440
    id: 01JD50BR1C8Q2W3E4R5T6Y7V8A
"""

RETURN = r"""
points:
  description: The restore points, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Id of the point.
      type: str
      sample: 01JD50BR1C8Q2W3E4R5T6Y7V8A
    group:
      description: Its group.
      type: str
      sample: nightly
    complete:
      description: Whether it holds every VM of its group.
      type: bool
      sample: true
    consistency:
      description: The weakest consistency of its VMs.
      type: str
      sample: crash
    cut_at:
      description: The instant whose state it holds.
      type: str
      sample: "2026-11-19T02:00:09.100Z"
    committed_at:
      description: When it was committed.
      type: str
      sample: "2026-11-19T02:04:31.020Z"
    pin_reason:
      description: Why people keep it, whatever the policies say.
      type: str
      sample: before the upgrade
    pin_until:
      description: When the pin ends; V(null) if it does not.
      type: str
      sample: "2026-12-01T00:00:00.000Z"
    locked_until:
      description: Until when nobody may drop it.
      type: str
      sample: null
    missing:
      description: The VMs that it lacks, each with the host it was on and the reason.
      type: list
      elements: dict
      sample: []
    vms:
      description: What it holds.
      type: list
      elements: dict
      contains:
        vm:
          description: Name of the VM.
          type: str
          sample: db
        host:
          description: The hypervisor it was backed up from.
          type: str
          sample: hv1
        pause_ms:
          description: For how many milliseconds it stood still.
          type: float
          sample: 23.4
        consistency:
          description: V(crash) or V(filesystem).
          type: str
          sample: crash
        disks:
          description: Its disks, each with size, level, parent, and the layer that holds what was written
            since.
          type: list
          elements: dict
          sample:
            - disk: vd-a
              format: qcow2
              virtual_size: 10737418240
              level: incremental
              level_reason: changes since point 01JD2M3V5W6X7Y8Z9A0B1C2D3E
              parent: 01JD2M3V5W6X7Y8Z9A0B1C2D3E
              layer: vms/db/vd-a/01JD50BR1C8Q2W3E4R5T6Y7V8A.qcow2
              stored_bytes: 8192000
              dirty_bytes: 7864320
              sent_bytes: 7929856
              root: blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262
    stages:
      description:
        - Its VMs in the order in which they are brought up, a list of VMs for each stage. Each names V(vm), V(host), the
          VMs that it comes V(after), and V(timeout_s), the seconds it may take until it is ready.
      returned: O(recovery_order=true)
      type: list
      elements: list
      sample: [[{"vm": "db", "host": "hv1", "after": [], "timeout_s": 120.0}]]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import _module, _points, _receiver


def main() -> None:
    """Docs above, work in module_utils/_points.py."""
    module = AnsibleModule(
        argument_spec={
            **_receiver.ARGUMENTS,
            "id": {"type": "str", "aliases": ["point"]},
            "group": {"type": "str"},
            "vm": {"type": "str"},
            "limit": {"type": "int", "default": 100},
            "recovery_order": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("id", "group"), ("id", "vm")],
        supports_check_mode=True,
    )
    _module.run(module, _points.point_info)


if __name__ == "__main__":
    main()
