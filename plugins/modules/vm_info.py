#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Show VMs, their disks and their dirty bitmaps."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_info
short_description: Show the QEMU VMs of a host, their disks and dirty bitmaps
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - Connects to the QMP sockets of the host and reports each VM's disks with size, format and bitmaps, its
    block jobs, its guest agent, and what its QEMU can do, as found by C(query-qmp-schema).
  - Sockets that cannot be used are reported too, with the reason, and are an error only for a VM asked for by
    O(vms).
  - Does not need the receiver and says nothing about restore points; see M(livebackup.qemu.point_info) for
    these.
extends_documentation_fragment:
  - livebackup.qemu._attributes
  - livebackup.qemu._attributes.info_module
  - livebackup.qemu._attributes.qmp_group
  - livebackup.qemu._qmp
options:
  vms:
    description:
      - Names of the VMs to show.
      - If not given, all VMs found are shown.
    type: list
    elements: str
    aliases:
      - vm
seealso:
  - module: livebackup.qemu.tracking
  - module: livebackup.qemu.backup
"""

EXAMPLES = r"""
- name: Show every VM of the hypervisor
  livebackup.qemu.vm_info:
  register: found

- name: List the disks that no backup takes
  ansible.builtin.debug:
    msg: "{{ item.0.vm }} {{ item.1.disk }}"
  loop: "{{ found.vms | subelements('disks') }}"
  loop_control:
    label: "{{ item.0.vm }} {{ item.1.disk }}"
  when: not item.1.tracked

- name: Show two VMs whose sockets lie in another directory
  livebackup.qemu.vm_info:
    qmp_sockets:
      - /var/run/vms/*/qmp
    vms:
      - db
      - app
"""

RETURN = r"""
vms:
  description: The VMs, sorted by name if O(vms) is not given.
  returned: success
  type: list
  elements: dict
  contains:
    vm:
      description: Name of the VM.
      type: str
      sample: db
    socket:
      description: Its QMP socket.
      type: str
      sample: /run/qemu/db.qmp
    status:
      description: Run state as QEMU calls it.
      type: str
      sample: running
    running:
      description: Whether its CPUs run.
      type: bool
      sample: true
    qemu_version:
      description: Version of its QEMU.
      type: str
      sample: 7.2.22
    capabilities:
      description: Features of its QEMU that Livebackup knows.
      type: list
      elements: str
      sample: [copy-before-write, snapshot-access]
    agent:
      description: V(responding), V(silent), or V(absent) if the VM has no channel for a guest agent.
      type: str
      sample: responding
    session:
      description: The session that works on the VM, or did when its participant died; none if V(null).
      type: str
      sample: 01JD50BR1C8Q2W3E4R5T6Y7V8A
    jobs:
      description: All jobs of the VM, whoever runs them.
      type: list
      elements: dict
      contains:
        id:
          description: Id of the job.
          type: str
          sample: lb-job-0
        type:
          description: Type of the job.
          type: str
          sample: backup
        status:
          description: Status of the job.
          type: str
          sample: running
    disks:
      description: Its disks, without CD-ROM drives and firmware.
      type: list
      elements: dict
      contains:
        disk:
          description: Name of the disk, unique in the VM.
          type: str
          sample: vd-a
        node:
          description: Name of its block node; may change when the VM is started again.
          type: str
          sample: disk-a
        device:
          description: Path of the guest's device.
          type: str
          sample: /machine/peripheral/vd-a
        file:
          description: The image.
          type: str
          sample: /var/lib/vms/db/a.qcow2
        format:
          description: Format of the image.
          type: str
          sample: qcow2
        supported:
          description: Whether a backup of it is possible.
          type: bool
          sample: true
        read_only:
          description: Whether it is read-only.
          type: bool
          sample: false
        virtual_size:
          description: Size in bytes as the guest sees it.
          type: int
          sample: 10737418240
        allocated_bytes:
          description: Bytes the image takes on the host; V(null) if it has backing files.
          type: int
          sample: 167772160
        tracked:
          description: Whether backups take it.
          type: bool
          sample: true
        persistent:
          description: Whether the image can store bitmaps, so that tracking outlives a stop of the VM.
          type: bool
          sample: true
        growth_unit:
          description: A disk that grows stays incremental if its size was a multiple of this; V(null) if never.
          type: int
          sample: 1
        granularity:
          description: Bytes per bit of its next checkpoint bitmap; V(null) if it is not tracked.
          type: int
          sample: 65536
        backing_nodes:
          description: Nodes of its backing files, nearest first.
          type: list
          elements: str
          sample: []
        bitmaps:
          description: All its bitmaps, also those of others and those on backing nodes.
          type: list
          elements: dict
          contains:
            name:
              description: Name of the bitmap.
              type: str
              sample: livebackup:01JD50BR1C8Q2W3E4R5T6Y7V8A
            node:
              description: The node it is on.
              type: str
              sample: disk-a
            granularity:
              description: Bytes per bit.
              type: int
              sample: 65536
            dirty_bytes:
              description: Bytes it marks.
              type: int
              sample: 7864320
            persistent:
              description: Whether it is stored in the image when the VM stops.
              type: bool
              sample: true
            recording:
              description: Whether it records writes.
              type: bool
              sample: true
            busy:
              description: Whether a job uses it.
              type: bool
              sample: false
            inconsistent:
              description: Whether QEMU died without storing it.
              type: bool
              sample: false
            healthy:
              description: Whether it is neither inconsistent nor busy.
              type: bool
              sample: true
unreachable:
  description: Sockets behind which no VM could be reached.
  returned: success
  type: list
  elements: dict
  contains:
    socket:
      description: Path of the socket.
      type: str
      sample: /run/qemu/old.qmp
    msg:
      description: Why, and what to do.
      type: str
      sample: "The VM of QMP socket /run/qemu/old.qmp is not running: nobody listens there; start the VM."
    error:
      description: The same as facts, with C(code).
      type: dict
      sample: {code: vm-not-running, socket: /run/qemu/old.qmp}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import _info, _module, _qmp


def main() -> None:
    """Docs above, work in module_utils/_info.py."""
    module = AnsibleModule(
        argument_spec={**_qmp.ARGUMENTS, "vms": {"type": "list", "elements": "str", "aliases": ["vm"]}},
        supports_check_mode=True,
    )
    _module.run(module, _info.vm_info, needs_qmp=True)


if __name__ == "__main__":
    main()
