#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Open or abort a session."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session
short_description: Open or abort a backup session of a group of VMs
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - A session is one run of a group's backup. It is opened once, and then M(livebackup.qemu.backup) takes part
    in it on every hypervisor of the group. The receiver commits it when all participants are done, or aborts
    it.
  - Opening copies nothing and touches no VM.
  - A committed session is a restore point; this module does not remove those.
extends_documentation_fragment:
  - livebackup.qemu._attributes
  - livebackup.qemu._attributes.receiver_group
  - livebackup.qemu._receiver
attributes:
  check_mode:
    support: partial
    details:
      - In check mode it is not foreseen whether the group will be busy.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(state=absent) is idempotent.
      - A backup is an event. With O(state=present) every run opens another session, and fails while the group
        has one.
options:
  state:
    description:
      - With V(present) a new session is opened.
      - With V(absent) a session that is open is aborted. One that has ended stays as it is.
    type: str
    choices:
      - present
      - absent
    default: present
  id:
    description:
      - Id of the session to abort.
      - Only used when O(state=absent). One of O(id) and O(group) is required then.
    type: str
  group:
    description:
      - Name of the group, made by its first session.
      - With O(state=absent) and no O(id), the group's open session is aborted, if there is one.
      - Required when O(state=present).
    type: str
  hosts:
    description:
      - Names of the hosts that will take part. Each must join within O(join_timeout), with the
        O(livebackup.qemu.backup#module:host) of the same name.
      - Required when O(state=present).
    type: list
    elements: str
  policy:
    description:
      - With V(all), one VM that fails aborts the session.
      - With V(each), VMs that fail are left out and the restore point says which are missing.
    type: str
    choices:
      - all
      - each
    default: all
  consistency:
    description:
      - With V(crash), each disk is as after a power cut, all of them at the same instant.
      - With V(filesystem), the guest agents freeze the file systems first. A VM whose agent does not answer
        fails.
      - For single VMs it is changed by O(livebackup.qemu.backup#module:quiesce).
    type: str
    choices:
      - crash
      - filesystem
    default: crash
  required_vms:
    description:
      - Names of VMs that must be in the restore point. If one of them does not come, or fails later, the session
        is aborted, with O(policy=each) too.
    type: list
    elements: str
    default: []
  min_vms:
    description:
      - With fewer VMs than this the session is aborted, with O(policy=each) too.
    type: int
    default: 0
  forget_vms:
    description:
      - Names, or shell patterns of names, of VMs that have left the group.
      - The VMs of the group's newest restore point are expected again. If one of them does not come, the session is
        aborted, or with O(policy=each) the restore point says that it is missing. A VM that is named here may stay
        away. One that has moved to another host of the group is not missing.
      - Once a session has been committed with it, this need not be given again. A VM that comes although it is
        named here is backed up.
    type: list
    elements: str
    default: []
  join_timeout:
    description:
      - Seconds within which all hosts must join.
    type: int
    default: 60
  stop_budget:
    description:
      - Seconds for which a VM may be frozen or stopped at most. When they are over the VMs run on and the
        session is aborted. The usual pause is far below a second.
      - Windows thaws its file systems by itself after 10 seconds.
    type: float
    default: 5.0
  speed_limit:
    description:
      - Bytes per second that all transfers of the session together may take at most, at least 1048576. No limit
        if V(0).
      - The receiver divides it equally among the disks that are being transferred, again whenever one has ended.
      - Limits of a single host or disk are options of M(livebackup.qemu.backup).
    type: int
    default: 0
  wait:
    description:
      - Seconds to wait for the end of the group's open session, if it has one, before giving up.
    type: int
    default: 0
  reason:
    description:
      - Why the session is aborted. It is kept and shown to people.
      - Only used when O(state=absent).
    type: str
    default: aborted by livebackup.qemu.session
seealso:
  - module: livebackup.qemu.session_info
  - module: livebackup.qemu.backup
"""

EXAMPLES = r"""
- name: Open a session for two hypervisors
  livebackup.qemu.session:
    receiver_url: https://backup.example.com:8440
    group: nightly
    hosts:
      - hv1
      - hv2
  register: opened

- name: Open a session with frozen file systems, after a session that may still run
  livebackup.qemu.session:
    receiver_url: https://backup.example.com:8440
    group: nightly
    hosts: "{{ groups['hypervisors'] }}"
    consistency: filesystem
    forget_vms: [shop-test]
    wait: 600
  register: opened

- name: Back up, and leave no open session behind if a participant could not even start
  block:
    - name: Take part
      livebackup.qemu.backup:
        receiver_url: https://backup.example.com:8440
        session: "{{ opened.session.id }}"
  rescue:
    - name: Abort the session
      livebackup.qemu.session:
        receiver_url: https://backup.example.com:8440
        id: "{{ opened.session.id }}"
        state: absent
        reason: "{{ ansible_failed_result.msg }}"
"""

RETURN = r"""
session:
  description: >-
    The session as it is now. V(null) in check mode of O(state=present), and for O(state=absent) if the group
    has no open session.
  returned: success
  type: dict
  contains:
    id:
      description: Id of the session; that of the restore point too, once it is committed.
      type: str
      sample: 01JD7FZK3M4N5P6Q7R8S9T0V1W
    group:
      description: Its group.
      type: str
      sample: nightly
    policy:
      description: V(all) or V(each).
      type: str
      sample: all
    consistency:
      description: The consistency asked for.
      type: str
      sample: crash
    state:
      description: >-
        V(joining), V(preparing), V(stopping), V(cutting), V(transferring), V(sealing), V(committed) or
        V(aborted).
      type: str
      sample: joining
    reason:
      description: Why it was aborted.
      type: str
      sample: null
    opened_at:
      description: When it was opened.
      type: str
      sample: "2026-11-20T02:00:00.000Z"
    ended_at:
      description: When it was committed or aborted.
      type: str
      sample: null
    hosts:
      description: The hosts that take part.
      type: list
      elements: str
      sample: [hv1, hv2]
    required_vms:
      description: Names of the VMs that must be in the restore point.
      type: list
      elements: str
      sample: [db]
    min_vms:
      description: How many VMs must be in the restore point.
      type: int
      sample: 0
    forget_vms:
      description: Names, or patterns of names, of VMs that may stay away.
      type: list
      elements: str
      sample: []
    missing:
      description: VMs of the group's newest restore point that did not come, each with the host it was on and the
        reason.
      type: list
      elements: dict
      sample: []
    alarm:
      description: Which host has made no progress for too long.
      type: str
      sample: null
    participants:
      description: State of each host that has joined.
      type: list
      elements: dict
      sample: []
    disks:
      description: State of each disk's transfer, with bytes done and sent, rate and remaining seconds.
      type: list
      elements: dict
      sample: []
    transitions:
      description: What happened, in order.
      type: list
      elements: dict
      sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import _module, _receiver, _session


def main() -> None:
    """Docs above, work in module_utils/_session.py."""
    module = AnsibleModule(
        argument_spec={
            **_receiver.ARGUMENTS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "id": {"type": "str"},
            "group": {"type": "str"},
            "hosts": {"type": "list", "elements": "str"},
            "policy": {"type": "str", "choices": ["all", "each"], "default": "all"},
            "consistency": {"type": "str", "choices": ["crash", "filesystem"], "default": "crash"},
            "required_vms": {"type": "list", "elements": "str", "default": []},
            "min_vms": {"type": "int", "default": 0},
            "forget_vms": {"type": "list", "elements": "str", "default": []},
            "join_timeout": {"type": "int", "default": 60},
            "stop_budget": {"type": "float", "default": 5.0},
            "speed_limit": {"type": "int", "default": 0},
            "wait": {"type": "int", "default": 0},
            "reason": {"type": "str", "default": "aborted by livebackup.qemu.session"},
        },
        required_if=[
            ("state", "present", ("group", "hosts")),
            ("state", "absent", ("id", "group"), True),
        ],
        supports_check_mode=True,
    )
    _module.run(module, _session.session)


if __name__ == "__main__":
    main()
