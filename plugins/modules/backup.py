#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Take part in a session."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Back up the tracked disks of a hypervisor's VMs in a session
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - Takes part, for one hypervisor and all chosen VMs on it, in a session opened by
    M(livebackup.qemu.session). It returns when the receiver has committed or aborted the whole session.
  - All VMs of the group, on all its hypervisors, stand still for some milliseconds at the same instant. What
    their disks held then is copied to the receiver while they run on. Only what was written since the last
    restore point is copied, where the disk's checkpoint bitmap allows it.
  - A slow, hung or dead receiver never slows a guest down. Old data that the guest overwrites during the
    transfer is kept in O(scratch_dir); if that fails, the backup ends and not the guest.
  - If this module dies or hangs while VMs stand still, its watchdog process lets them run again. What else it
    leaves on a VM is cleaned up by the next backup of the VM.
  - The other hosts of the session wait for this one, so start it on all of them at once, with C(async) if
    there are more hosts than C(forks).
  - Backs up only disks chosen by M(livebackup.qemu.tracking).
extends_documentation_fragment:
  - livebackup.qemu._attributes
  - livebackup.qemu._attributes.both_groups
  - livebackup.qemu._qmp
  - livebackup.qemu._receiver
attributes:
  check_mode:
    support: full
    details:
      - Reports for each disk what would be copied as far as its bitmaps tell, and leaves VMs, session and
        receiver alone. The session need not exist.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Nothing is done for a session that is already committed. To take part in a new session is a new
        backup.
  async:
    description: Supports being used with the C(async) keyword.
    support: full
options:
  session:
    description:
      - Id of the session, as returned by M(livebackup.qemu.session).
    type: str
    required: true
  host:
    description:
      - Name of this host in the session's list of hosts.
      - If not given, the name the host has itself.
    type: str
  vms:
    description:
      - Names of the VMs to back up. Each of them must be running, or paused, and have at least one tracked
        disk. For others there is O(stopped_vms).
      - If not given, all VMs of the host are backed up.
    type: list
    elements: str
    aliases:
      - vm
  stopped_vms:
    description:
      - VMs that are backed up whether they run or not. While one runs, it is backed up like any other. Otherwise
        a C(qemu-storage-daemon) on this host opens its images and reads them.
      - A VM cannot start while its images are open, from the moment when all hosts have joined until all data
        has been sent. An image that is in use by another process is never opened.
      - The disk's checkpoint bitmap in the image makes the backup incremental, as it does for a running VM. It is
        lost if the storage daemon is killed.
      - The VMs are backed up in addition to O(vms).
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the VM, the same as when it runs.
        type: str
        required: true
      disks:
        description:
          - Its disks. Those without a marker of M(livebackup.qemu.tracking) are left out, except images that
            cannot store one.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description:
              - Name of the disk, the same as when the VM runs, as M(livebackup.qemu.vm_info) shows it.
            type: str
            required: true
          file:
            description:
              - Path of its image or block device.
            type: path
            required: true
          format:
            description:
              - Format of the image.
            type: str
            choices: [qcow2, raw]
            default: qcow2
  scratch_dir:
    description:
      - Directory on a local file system for the data that guests overwrite during the transfer.
      - Its files have no names and are gone as soon as the transfer ends, however it ends.
    type: path
    default: /var/lib/livebackup/scratch
  speed:
    description:
      - Bytes per second that each disk's transfer may take at most, at least 1048576. No limit if V(0).
    type: int
    default: 0
  host_speed:
    description:
      - Bytes per second that all transfers of this host together may take at most, at least 1048576. They get
        equal shares, larger ones when some have ended. No limit if V(0).
      - Holds beside O(speed) and the O(livebackup.qemu.session#module:speed_limit) of the session.
    type: int
    default: 0
  stall_limit:
    description:
      - Seconds after which a transfer is ended when the receiver has taken no data. A transfer that must be slow
        because of a speed limit gets the more time the slower it is.
      - While a receiver hangs, QMP commands of other programs may have to wait for so long.
      - If this module itself hangs, it is killed after twice this time, so that the next backup can reach the
        VMs.
    type: float
    default: 20.0
  cbw_timeout:
    description:
      - Seconds a write of the guest may wait for the scratch image, once, before the snapshot is given up.
    type: int
    choices: [1, 2, 3, 4]
    default: 2
  cut_hook:
    description:
      - Command to run on the hypervisor while its VMs stand still, for example to take a snapshot of the
        storage of the same instant. It is not run in a shell.
      - The environment variables E(LIVEBACKUP_SESSION) and E(LIVEBACKUP_VMS), names separated by commas, tell
        it about the cut.
      - If it fails, the VMs run on and the backup fails.
    type: str
  cut_hook_timeout:
    description:
      - Seconds the command may take. They are part of the session's stop budget.
    type: float
    default: 2.0
  quiesce:
    description:
      - For each VM named, whether its guest agent freezes its file systems for the cut. Names of VMs that are
        not on this host are passed over.
      - With V(none) it does not. With V(require), a VM that cannot be frozen within two thirds of the session's
        stop budget fails.
      - With V(try), a VM that cannot be frozen within a third of the session's stop budget is backed up as it
        is. The restore point then says V(crash) for it, and a warning says why. An agent that hung and freezes
        the guest later is made to thaw it, for two minutes more after everything else is done, and by the
        next backup.
      - For VMs that are not named it follows from the O(livebackup.qemu.session#module:consistency) of the
        session, V(none) for V(crash) and V(require) for V(filesystem).
    type: dict
  guest_hooks:
    description:
      - For each VM named, the commands V(freeze) and V(thaw) to run in its guest by its agent, each a list of a
        program's path and its arguments. They bring an application to rest and let it go on.
      - V(freeze) is run before the file systems are frozen, V(thaw) after they are thawed. If V(freeze) fails,
        O(quiesce) decides whether the VM does; the default for a VM with hooks is V(require).
      - Once V(freeze) has been started, V(thaw) is run, whatever happens, if need be by the watchdog or by the
        next backup of the VM. It is run again until it succeeds, so it must bear that.
      - V(freeze) is part of the session's stop budget, and the other VMs of the group stand still meanwhile, so
        it should be fast. V(thaw) may take five seconds.
      - If both file systems and hook have done their part, the restore point says V(application).
      - The agent must allow C(guest-exec), which some distributions forbid by default. Scripts of the agent
        itself, in C(/etc/qemu/fsfreeze-hook.d), run whenever it freezes; the point then says V(filesystem).
    type: dict
seealso:
  - module: livebackup.qemu.session
  - module: livebackup.qemu.tracking
  - name: QEMU dirty bitmaps
    description: How QEMU records what was written to a disk.
    link: https://www.qemu.org/docs/master/interop/bitmaps.html
"""

EXAMPLES = r"""
- name: Back up all VMs of the hypervisor
  livebackup.qemu.backup:
    receiver_url: https://backup.example.com:8440
    session: "{{ opened.session.id }}"

- name: Bring a database to rest, freeze web if its agent answers, and leave the others alone
  livebackup.qemu.backup:
    receiver_url: https://backup.example.com:8440
    session: "{{ opened.session.id }}"
    quiesce:
      web: try
    guest_hooks:
      db:
        freeze: [/usr/local/sbin/database, hold]
        thaw: [/usr/local/sbin/database, go]

- name: See how much a backup would copy
  livebackup.qemu.backup:
    receiver_url: https://backup.example.com:8440
    session: none
    vms:
      - db
  check_mode: true
  register: foreseen

- name: Back up a VM that may be stopped
  livebackup.qemu.backup:
    receiver_url: https://backup.example.com:8440
    session: "{{ opened.session.id }}"
    stopped_vms:
      - name: archive
        disks:
          - name: vd-a
            file: /var/lib/libvirt/images/archive.qcow2

- name: Back up a group that lives on several hypervisors
  hosts: hypervisors
  module_defaults:
    group/livebackup.qemu.receiver:
      receiver_url: https://backup.example.com:8440
  tasks:
    - name: Open the session
      livebackup.qemu.session:
        group: nightly
        hosts: "{{ ansible_play_hosts_all }}"
      run_once: true
      register: opened

    - name: Start all participants
      livebackup.qemu.backup:
        session: "{{ opened.session.id }}"
        host: "{{ inventory_hostname }}"
      async: 86400
      poll: 0
      register: started

    - name: Wait for the end of the backup
      ansible.builtin.async_status:
        jid: "{{ started.ansible_job_id }}"
      register: backed_up
      until: backed_up is finished
      retries: 8640
      delay: 10
"""

RETURN = r"""
session:
  description: Id of the session.
  returned: success
  type: str
  sample: 01JD7FZK3M4N5P6Q7R8S9T0V1W
point:
  description: Id of the restore point, which is that of the session. V(null) in check mode.
  returned: success
  type: str
  sample: 01JD7FZK3M4N5P6Q7R8S9T0V1W
vms:
  description: The VMs of this host. Empty if the session was already committed.
  returned: success
  type: list
  elements: dict
  contains:
    vm:
      description: Name of the VM.
      type: str
      sample: db
    pause_ms:
      description: For how many milliseconds it stood still. V(null) in check mode.
      type: float
      sample: 23.4
    consistency:
      description:
        - V(application) if also its O(guest_hooks) have run, V(filesystem) if its agent froze its file systems,
          else V(crash). V(null) in check mode.
      type: str
      sample: crash
    disks:
      description: Its disks.
      type: list
      elements: dict
      contains:
        disk:
          description: Name of the disk.
          type: str
          sample: vd-a
        level:
          description:
            - V(full), V(incremental) or V(resync), which sends what differs from RV(vms[].disks[].parent).
            - In check mode the receiver may still decide for another one.
          type: str
          sample: incremental
        level_reason:
          description: Why.
          type: str
          sample: changes since point 01JD2M3V5W6X7Y8Z9A0B1C2D3E
        parent:
          description: The restore point on which the new one stands.
          type: str
          sample: 01JD2M3V5W6X7Y8Z9A0B1C2D3E
        virtual_size:
          description: Size of the disk in bytes.
          type: int
          sample: 10737418240
        dirty_bytes:
          description: Bytes to copy.
          type: int
          sample: 7864320
        sent_bytes:
          description: Bytes the receiver took over the network. V(null) in check mode.
          type: int
          sample: 7929856
barrier_ms:
  description: For how many milliseconds of the pause the VMs of this host waited for those of the other hosts.
  returned: success, unless the session was already committed or in check mode
  type: float
  sample: 4.5
failed_vms:
  description: VMs left out of the point because they failed. Only under the policy V(each) of the session.
  returned: success
  type: list
  elements: dict
  sample:
    - vm: app
      msg: "VM app: the snapshot of disk vd-a broke because its scratch image was full or too slow; give
        scratch_dir more room or a faster file system."
error:
  description: The error as facts, with a stable C(code).
  returned: failure
  type: dict
  sample:
    code: qmp-socket-busy
    socket: /run/qemu/db.qmp
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _backup,
    _module,
    _qmp,
    _receiver,
    _stopped,
)


def main() -> None:
    """Docs above, work in module_utils/_backup.py and _participant.py."""
    module = AnsibleModule(
        argument_spec={
            **_qmp.ARGUMENTS,
            **_receiver.ARGUMENTS,
            "session": {"type": "str", "required": True},
            "host": {"type": "str"},
            "vms": {"type": "list", "elements": "str", "aliases": ["vm"]},
            "stopped_vms": _stopped.ARGUMENTS,
            "scratch_dir": {"type": "path", "default": "/var/lib/livebackup/scratch"},
            "speed": {"type": "int", "default": 0},
            "host_speed": {"type": "int", "default": 0},
            "stall_limit": {"type": "float", "default": 20.0},
            "cbw_timeout": {"type": "int", "choices": [1, 2, 3, 4], "default": 2},
            "cut_hook": {"type": "str"},
            "cut_hook_timeout": {"type": "float", "default": 2.0},
            "quiesce": {"type": "dict"},
            "guest_hooks": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    _module.run(module, _backup.backup, needs_qmp=True)


if __name__ == "__main__":
    main()
