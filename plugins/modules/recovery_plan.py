#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Declare how a group is brought up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_plan
short_description: Declare how the VMs of a group are brought up
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - Declares the recovery plan of a group, or withdraws it. The plan says in which order its VMs are brought up, on which
    machines, how it is seen that they are up, and when the receiver rehearses that.
  - Without a plan all VMs are brought up at once, each with 1024 MiB and one processor, and are ready when the guest
    agent answers or the console asks for a login.
  - Nothing is brought up by this module.
  - The token needs the role V(manage). Hypervisors have none, so this is run on the receiver's host, or wherever such
    a token is at hand.
extends_documentation_fragment:
  - livebackup.qemu._attributes
  - livebackup.qemu._attributes.receiver_group
  - livebackup.qemu._receiver
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  group:
    description:
      - Name of the group. It need not have been backed up yet.
    type: str
    required: true
  state:
    description:
      - With V(present) the group has exactly this plan. What is not given has its default.
      - With V(absent) it has none.
    type: str
    choices:
      - present
      - absent
    default: present
  members:
    description:
      - What is to be said of VMs of the group. Those that are not named are brought up at once, as without a plan.
    type: list
    elements: dict
    default: []
    suboptions:
      vm:
        description:
          - Name of the VM.
        type: str
        required: true
      after:
        description:
          - Names of the members that must be ready and checked before.
        type: list
        elements: str
      boot:
        description:
          - The machine that the VM is booted on.
        type: dict
        suboptions:
          memory_mib:
            description:
              - Memory in MiB, 1024 if not given.
            type: int
          cpus:
            description:
              - Number of processors, 1 if not given.
            type: int
          machine:
            description:
              - Type of the machine, V(q35) if not given.
            type: str
            choices: [q35, pc]
          firmware:
            description:
              - Firmware of the machine, V(bios) if not given. V(uefi) needs the package C(ovmf) on the receiver.
            type: str
            choices: [bios, uefi]
          disk_bus:
            description:
              - How the disks are attached, V(virtio) if not given. V(ide) is for the machine V(pc).
            type: str
            choices: [virtio, scsi, sata, ide]
          nics:
            description:
              - Network cards, one of the model V(virtio) if not given. They are there only if there is a O(network).
            type: list
            elements: dict
            suboptions:
              model:
                description:
                  - Model of the card, V(virtio) if not given.
                type: str
                choices: [virtio, e1000, e1000e, rtl8139]
              mac:
                description:
                  - Its hardware address. Without one it has one that is the same each time.
                type: str
              address:
                description:
                  - The IPv4 address that the guest has, or is given by DHCP.
                type: str
          kernel:
            description:
              - A kernel to boot directly, a file below the receiver's C(rehearsal_files).
            type: str
          initrd:
            description:
              - Its initial RAM disk, likewise.
            type: str
          append:
            description:
              - Its command line.
            type: str
          disks:
            description:
              - The disks in boot order, all of the VM by name if not given.
            type: list
            elements: str
      ready:
        description:
          - How it is seen that the guest is up; whichever sign comes first counts.
        type: dict
        suboptions:
          agent:
            description:
              - Whether an answer of the guest agent is a sign.
            type: bool
          console:
            description:
              - A regular expression. That it is found on the serial console is a sign.
            type: str
          timeout_s:
            description:
              - Seconds after which the guest counts as failed, 300 if not given.
            type: float
      checks:
        description:
          - What is looked at when the guest is up. Each is tried until it is as it should be, or O(members[].checks[].timeout_s)
            have passed.
        type: list
        elements: dict
        suboptions:
          name:
            description:
              - Name of the check.
            type: str
            required: true
          command:
            description:
              - A program in the guest and its arguments, run by the guest agent.
            type: list
            elements: str
          exit_code:
            description:
              - The exit code that it must end with, 0 if not given.
            type: int
          tcp:
            description:
              - A TCP port that must accept connections.
            type: int
          address:
            description:
              - Where O(members[].checks[].tcp) is, the address of the VM's first card that has one if not given.
            type: str
          http:
            description:
              - An address that must answer, such as V(http://10.0.0.2:8080/health). There are no host names.
            type: str
          status:
            description:
              - The status that it must answer with, 200 if not given.
            type: int
          text:
            description:
              - What must be in the answer.
            type: str
          timeout_s:
            description:
              - Seconds for the check, 60 if not given.
            type: float
  network:
    description:
      - The network of a rehearsal, which nothing else is on. Without it VMs have no network card.
    type: dict
    suboptions:
      address:
        description:
          - The receiver's own address in it, such as V(10.0.0.1/24). Checks come from there.
        type: str
        required: true
      dhcp:
        description:
          - Whether guests are given their addresses by DHCP, V(false) if not given.
        type: bool
  schedule:
    description:
      - When the receiver rehearses the newest complete point of the group, as V(daily at 04:00) or V(every 1w).
      - Not given, it is rehearsed only when somebody asks for it.
    type: str
  time_zone:
    description:
      - The time zone of O(schedule).
    type: str
    default: UTC
seealso:
  - module: livebackup.qemu.policy
"""

EXAMPLES = r"""
- name: Bring up the data base, then what needs it, and rehearse that every night
  livebackup.qemu.recovery_plan:
    receiver_url: https://backup.example.com:8440
    receiver_token_path: /etc/livebackup/tokens/manage
    receiver_ca_path: /etc/livebackup/tls/ca.pem
    group: nightly
    members:
      - vm: db
        boot:
          memory_mib: 4096
          nics:
            - address: 10.0.0.2
        ready:
          agent: true
        checks:
          - name: accepts queries
            command: [/usr/bin/pg_isready]
      - vm: app
        after: [db]
        checks:
          - name: front page
            http: http://10.0.0.3:8080/
            text: Welcome
    network:
      address: 10.0.0.1/24
    schedule: daily at 04:00
    time_zone: Europe/Berlin

- name: Withdraw the plan
  livebackup.qemu.recovery_plan:
    receiver_url: https://backup.example.com:8440
    receiver_token: "{{ manage_token }}"
    group: nightly
    state: absent
"""

RETURN = r"""
plan:
  description: The plan as it is now, or would be in check mode, with every default; V(null) if the group has none.
  returned: success
  type: dict
  sample:
    members: []
    network: null
    schedule: daily at 04:00
    time_zone: UTC
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import _module, _receiver, _recovery_plans

NIC: dict[str, Any] = {
    "model": {"type": "str", "choices": ["virtio", "e1000", "e1000e", "rtl8139"]},
    "mac": {"type": "str"},
    "address": {"type": "str"},
}
BOOT: dict[str, Any] = {
    "memory_mib": {"type": "int"},
    "cpus": {"type": "int"},
    "machine": {"type": "str", "choices": ["q35", "pc"]},
    "firmware": {"type": "str", "choices": ["bios", "uefi"]},
    "disk_bus": {"type": "str", "choices": ["virtio", "scsi", "sata", "ide"]},
    "nics": {"type": "list", "elements": "dict", "options": NIC},
    "kernel": {"type": "str"},
    "initrd": {"type": "str"},
    "append": {"type": "str"},
    "disks": {"type": "list", "elements": "str"},
}
READY: dict[str, Any] = {
    "agent": {"type": "bool"},
    "console": {"type": "str"},
    "timeout_s": {"type": "float"},
}
CHECK: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "command": {"type": "list", "elements": "str"},
    "exit_code": {"type": "int"},
    "tcp": {"type": "int"},
    "address": {"type": "str"},
    "http": {"type": "str"},
    "status": {"type": "int"},
    "text": {"type": "str"},
    "timeout_s": {"type": "float"},
}
MEMBER: dict[str, Any] = {
    "vm": {"type": "str", "required": True},
    "after": {"type": "list", "elements": "str"},
    "boot": {"type": "dict", "options": BOOT},
    "ready": {"type": "dict", "options": READY},
    "checks": {"type": "list", "elements": "dict", "options": CHECK},
}
NETWORK: dict[str, Any] = {"address": {"type": "str", "required": True}, "dhcp": {"type": "bool"}}


def main() -> None:
    """Docs above, work in module_utils/_recovery_plans.py."""
    module = AnsibleModule(
        argument_spec={
            **_receiver.ARGUMENTS,
            "group": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "members": {"type": "list", "elements": "dict", "default": [], "options": MEMBER},
            "network": {"type": "dict", "options": NETWORK},
            "schedule": {"type": "str"},
            "time_zone": {"type": "str", "default": "UTC"},
        },
        supports_check_mode=True,
    )
    _module.run(module, _recovery_plans.recovery_plan)


if __name__ == "__main__":
    main()
