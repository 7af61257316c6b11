#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Start a VM from the receiver, and move its disks here while it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instant_restore
short_description: Start a VM from a restore point at once, and move its disks here while it runs
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - With O(state=served), makes an overlay for each disk of a VM, which is ready in about a second whatever the
    size of the disk. What the VM writes goes into the overlay, what it reads and has not written comes from the
    receiver. The point is kept there for as long.
  - With O(state=moved), copies what is still on the receiver into the overlays, while the VM runs or not. They end
    as disks that need the receiver no more.
  - If the receiver dies or hangs in between, the VM pauses, and goes on by itself when the receiver is back. What it
    has written is never lost, and its guest sees no error.
  - The disks are tracked from the beginning, so the VM's next backup is incremental from the restore point.
  - Does not define, start or stop a VM. RV(disks) has what QEMU needs to be told.
extends_documentation_fragment:
  - livebackup.qemu._attributes
  - livebackup.qemu._attributes.receiver_group
  - livebackup.qemu._receiver
  - livebackup.qemu._qmp
attributes:
  action_group:
    membership:
      - livebackup.qemu.qmp
      - livebackup.qemu.receiver
  check_mode:
    support: full
    details:
      - The VM itself is not looked at in check mode.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - An overlay that exists is never made anew, as it may hold what the VM has written. Running the task again after
        an interruption goes on where that was.
  async:
    description: Supports being used with the C(async) keyword.
    support: full
options:
  state:
    description:
      - V(served) - the VM can be started with the overlays, and the process that reads from the receiver runs.
      - V(moved) - the disks are here and nothing is left of the restore but them. The VM must run with the overlays, or
        nobody may have them open.
      - V(absent) - the restore is given up, and its overlays are removed. Disks that were moved already stay.
    type: str
    choices:
      - served
      - moved
      - absent
    default: served
  point:
    description:
      - Id of the restore point, as shown by M(livebackup.qemu.point_info).
      - Required with O(state=served).
    type: str
  vm:
    description:
      - Name of the VM in the restore point.
    type: str
    required: true
  name:
    description:
      - Name of the VM on this host, by which its QMP socket is found.
      - If not given, it is O(vm).
    type: str
  disks:
    description:
      - Names of the disks.
      - If not given, all disks the point holds of the VM are restored.
    type: list
    elements: str
  dest:
    description:
      - Existing directory for the overlays, which become the disks. They are called C(<disk>.qcow2).
    type: path
    required: true
  speed:
    description:
      - Bytes per second that moving a disk may read from the receiver; V(0) for no limit.
    type: int
    default: 0
  wait:
    description:
      - With O(state=moved), whether to wait until the disks are moved.
      - Otherwise the task begins to move them, does what is to be done, and returns the progress; repeat it until
        RV(finished) is true.
      - Disks of a VM that does not run are always waited for.
    type: bool
    default: true
  owner:
    description:
      - User that QEMU runs as, to whom overlays and the socket it reads from are given.
      - If not given, they belong to the user the task runs as.
    type: str
  group:
    description:
      - Group of the same; by default that of the user.
    type: str
  force:
    description:
      - With O(state=absent), gives up overlays that the VM has written to.
    type: bool
    default: false
  state_dir:
    description:
      - Directory for what must be remembered as long as the VM reads from the receiver.
      - With another one than the default, nothing starts again by itself after a reboot of the host.
    type: path
    default: /var/lib/livebackup/instant
  run_dir:
    description:
      - Directory for the socket that QEMU reads from. The path of the socket is kept in the overlays.
      - What is said of O(state_dir) applies here, too.
    type: path
    default: /run/livebackup/instant
requirements:
  - qemu-img of QEMU 7.2 or newer on the host the task runs on; for O(state=moved) of a VM that does not run,
    qemu-storage-daemon too
  - nbdkit with its plugin for Python on the host the task runs on
  - libnbd's module for that Python on the host the task runs on
seealso:
  - module: livebackup.qemu.restore
  - module: livebackup.qemu.point_info
notes:
  - With O(state=served), the token must have the role C(restore). The other states need none, as what the receiver
    serves has a secret of its own.
  - The devices of the VM must be given C(rerror=stop) and C(werror=stop).
"""

EXAMPLES = r"""
- name: Have a VM's disks at once
  livebackup.qemu.instant_restore:
    receiver_url: https://backup.example.com:8440
    point: 01JD50BR1C8Q2W3E4R5T6Y7V8A
    vm: db
    dest: /var/lib/vms/db
    owner: libvirt-qemu
  register: served

- name: Start the VM here with the options in served.disks
  ansible.builtin.command: virsh start db

- name: Move the disks here while the VM runs, and show how far that is
  livebackup.qemu.instant_restore:
    state: moved
    receiver_url: https://backup.example.com:8440
    vm: db
    dest: /var/lib/vms/db
    speed: 104857600
    wait: false
  register: moved
  until: moved.finished
  retries: 1000
  delay: 10

- name: Give the restore up
  livebackup.qemu.instant_restore:
    state: absent
    receiver_url: https://backup.example.com:8440
    vm: db
    dest: /var/lib/vms/db
"""

RETURN = r"""
vm:
  description: Name of the VM on this host.
  returned: success
  type: str
  sample: db
point:
  description: Id of the restore point, if it was given.
  returned: success
  type: str
  sample: 01JD50BR1C8Q2W3E4R5T6Y7V8A
disks:
  description: The disks, and what QEMU needs to be told of each.
  returned: success
  type: list
  elements: dict
  contains:
    disk:
      description: Name of the disk.
      type: str
      sample: vd-a
    path:
      description: The overlay.
      type: str
      sample: /var/lib/vms/db/vd-a.qcow2
    virtual_size:
      description: Size in bytes as a guest sees it; 0 if nothing is left of the restore that would say it.
      type: int
      sample: 10737418240
    blockdev:
      description: Argument of QEMU's option C(-blockdev).
      type: str
      sample: '{"driver": "qcow2", "node-name": "disk-vd-a", "file": {"driver": "file", "filename": "..."}}'
    device:
      description: Argument of QEMU's option C(-device).
      type: str
      sample: virtio-blk-pci,id=vd-a,drive=disk-vd-a,rerror=stop,werror=stop
finished:
  description: Whether all disks are moved.
  returned: with O(state=moved)
  type: bool
  sample: true
progress:
  description: How far each disk is.
  returned: with O(state=moved)
  type: list
  elements: dict
  contains:
    disk:
      description: Name of the disk.
      type: str
      sample: vd-a
    done_bytes:
      description: Bytes of the disk that are here, or are zero.
      type: int
      sample: 5368709120
    total_bytes:
      description: Size of the disk in bytes; 0 as long as that is not known.
      type: int
      sample: 10737418240
    finished:
      description: Whether it needs the receiver no more.
      type: bool
      sample: false
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _instant,
    _module,
    _qmp,
    _receiver,
    _tender,
)


def main() -> None:
    """Docs above, work in module_utils/_instant.py."""
    module = AnsibleModule(
        argument_spec={
            **_receiver.ARGUMENTS,
            **_qmp.ARGUMENTS,
            "state": {"type": "str", "choices": ["served", "moved", "absent"], "default": "served"},
            "point": {"type": "str"},
            "vm": {"type": "str", "required": True},
            "name": {"type": "str"},
            "disks": {"type": "list", "elements": "str"},
            "dest": {"type": "path", "required": True},
            "speed": {"type": "int", "default": 0},
            "wait": {"type": "bool", "default": True},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "state_dir": {"type": "path", "default": _tender.STATE_DIR},
            "run_dir": {"type": "path", "default": _tender.RUN_DIR},
        },
        required_if=[("state", "served", ["point"])],
        supports_check_mode=True,
    )
    _module.run(module, _instant.instant_restore, needs_qmp=module.params["state"] == "moved")


if __name__ == "__main__":
    main()
