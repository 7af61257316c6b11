#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Restore disks to files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore
short_description: Restore the disks of a VM from a restore point to image files
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - Writes the disks of one VM, as they were at a restore point, to image files of this host, each complete and
    without backing files. Zeros take no room.
  - Every cluster of 64 KiB is compared with the digest that was made of it when it was backed up, before it is
    written. Anything that differs is an error, and there is no file then.
  - A file gets its name only when it is complete and durable. A file it replaces stays until then.
  - A run that is interrupted, whatever the cause, leaves a file C(.<name>.livebackup-partial) beside the place of
    each file. The next run goes on with it, and fetches only what is not right in it. If you do not want to go on,
    remove it.
  - A file that another process has open, such as the disk of a running VM, is never replaced, and no VM can be
    started with it meanwhile.
  - Does not define, start or stop a VM.
extends_documentation_fragment:
  - livebackup.qemu._attributes
  - livebackup.qemu._attributes.receiver_group
  - livebackup.qemu._receiver
attributes:
  check_mode:
    support: full
    details:
      - The free space is not checked in check mode.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - Beside each file a small file, C(.livebackup.json), records what was restored, with the file's size
        and time of modification. A file for which all of that is still true is left alone. Contents are not
        compared, so a file that was written to since, by a VM that was started with it for example, counts as
        another file.
  async:
    description: Supports being used with the C(async) keyword.
    support: full
options:
  point:
    description:
      - Id of the restore point, as shown by M(livebackup.qemu.point_info).
    type: str
    required: true
  vm:
    description:
      - Name of the VM.
    type: str
    required: true
  disks:
    description:
      - Names of the disks to restore.
      - If not given, all disks the point holds of the VM are restored.
    type: list
    elements: str
  dest:
    description:
      - Existing directory for the files. They are called C(<disk>.<format>), such as V(vd-a.qcow2).
      - Needed for disks that O(paths) does not name.
    type: path
  paths:
    description:
      - For each disk named, the path of its file, for example that of the VM's own disk. Its directory must exist.
    type: dict
  format:
    description:
      - Format of the files.
    type: str
    choices:
      - qcow2
      - raw
    default: qcow2
  force:
    description:
      - Replaces files that exist and are not what would be restored. Without it, such a file is an error.
      - A file in use is an error in any case.
    type: bool
    default: false
  delta:
    description:
      - Takes from the file that is replaced what is right in it already, so that only what differs comes over the
        network. It must be of the O(format) named.
      - The new file is written beside the old one nevertheless, so there must be room for both.
    type: bool
    default: false
  track:
    description:
      - Gives qcow2 files the checkpoint bitmap of the point, empty, and the marker of M(livebackup.qemu.tracking). So
        the next backup of the VM copies only what was written since it was restored.
      - Set it to V(false) for a copy that will live under another name.
    type: bool
    default: true
  stall_limit:
    description:
      - Seconds after which the restore ends if the receiver sends nothing.
    type: float
    default: 30.0
  progress_path:
    description:
      - File that tells once a second, as JSON, how far the restore is. It is removed at the end.
    type: path
requirements:
  - Python 3.11 or newer on the host the task runs on
  - Python libraries libnbd (C(python3-libnbd)) and blake3 there; the role P(livebackup.qemu.hypervisor#role) installs
    them
  - for qcow2, qemu-img and qemu-storage-daemon of QEMU 7.2 or newer, and the library qemu.qmp there
seealso:
  - module: livebackup.qemu.point_info
notes:
  - The token must have the role C(restore).
  - New files belong to the user the task runs as and only that user may read them. Replaced files keep owner,
    mode and extended attributes, but not the snapshots inside a qcow2 image.
"""

EXAMPLES = r"""
- name: Restore a VM's disks into an empty directory
  livebackup.qemu.restore:
    receiver_url: https://backup.example.com:8440
    point: 01JD50BR1C8Q2W3E4R5T6Y7V8A
    vm: db
    dest: /var/lib/vms/db-restored

- name: Replace one raw disk of a VM that is switched off
  livebackup.qemu.restore:
    receiver_url: https://backup.example.com:8440
    point: 01JD50BR1C8Q2W3E4R5T6Y7V8A
    vm: app
    disks:
      - vd-a
    dest: /var/lib/vms/app
    format: raw
    force: true
  register: restored

- name: Bring a VM that is shut down back to a point, over its own disk, and move only what differs
  livebackup.qemu.restore:
    receiver_url: https://backup.example.com:8440
    point: 01JD50BR1C8Q2W3E4R5T6Y7V8A
    vm: db
    paths:
      vd-a: /var/lib/libvirt/images/db.qcow2
    disks: [vd-a]
    delta: true
    force: true

- name: Make a copy of a VM that will live under another name
  livebackup.qemu.restore:
    receiver_url: https://backup.example.com:8440
    point: 01JD50BR1C8Q2W3E4R5T6Y7V8A
    vm: db
    dest: /var/lib/vms/db-copy
    track: false

- name: Let QEMU open the restored files
  ansible.builtin.file:
    path: "{{ item.path }}"
    owner: qemu
    group: qemu
    mode: "0600"
  loop: "{{ restored.files }}"
  loop_control:
    label: "{{ item.path }}"
"""

RETURN = r"""
point:
  description: Id of the restore point.
  returned: success
  type: str
  sample: 01JD50BR1C8Q2W3E4R5T6Y7V8A
vm:
  description: Name of the VM.
  returned: success
  type: str
  sample: db
files:
  description: The files, restored or left alone.
  returned: success
  type: list
  elements: dict
  contains:
    disk:
      description: Name of the disk.
      type: str
      sample: vd-a
    path:
      description: The file.
      type: str
      sample: /var/lib/vms/db-restored/vd-a.qcow2
    format:
      description: Its format.
      type: str
      sample: qcow2
    virtual_size:
      description: Size in bytes as a guest sees it.
      type: int
      sample: 10737418240
    tracking:
      description:
        - V(bitmap) if the next backup of the VM is incremental from this point. V(none) for raw files, which cannot
          hold a bitmap, and without O(track).
      type: str
      sample: bitmap
    fetched_bytes:
      description: Bytes of the disk that came from the receiver. V(null) in check mode.
      type: int
      sample: 7864320
    kept_bytes:
      description: Bytes that were right in the file that was replaced, with O(delta).
      type: int
      sample: 0
    resumed_bytes:
      description: Bytes that were right in what an earlier, interrupted run has left.
      type: int
      sample: 0
    changed:
      description: Whether it was restored now, or would be in check mode.
      type: bool
      sample: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import _module, _receiver, _restore


def main() -> None:
    """Docs above, work in module_utils/_restore.py."""
    module = AnsibleModule(
        argument_spec={
            **_receiver.ARGUMENTS,
            "point": {"type": "str", "required": True},
            "vm": {"type": "str", "required": True},
            "disks": {"type": "list", "elements": "str"},
            "dest": {"type": "path"},
            "paths": {"type": "dict"},
            "format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
            "force": {"type": "bool", "default": False},
            "delta": {"type": "bool", "default": False},
            "track": {"type": "bool", "default": True},
            "stall_limit": {"type": "float", "default": 30.0},
            "progress_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    _module.run(
        module,
        _restore.restore,
        needs_qmp=module.params["format"] == "qcow2",
        needs_restore=True,
    )


if __name__ == "__main__":
    main()
