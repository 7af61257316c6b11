#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Declare what is kept."""

from __future__ import annotations

DOCUMENTATION = r"""
module: policy
short_description: Declare which restore points a receiver keeps
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - Declares the retention policy of a group, a VM or a disk, or withdraws it.
  - A restore point is kept if any rule of any policy that is for it keeps it. Whatever the rules say, these stay,
    pinned and locked points, the newest point of a group and its newest complete one, and every point that no policy
    is for.
  - This module drops nothing. The receiver does, after the next backup of a group and once an hour, unless its
    option C(retention_automatic) is false. In check mode and with C(--diff) it is shown which points these are.
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
  scope:
    description:
      - What the policy is for, V(group:NAME), V(vm:NAME) or V(disk:VM/DISK).
      - The rules of a group are judged over all its points, those of a VM or disk over the points that hold it. A
        point is always kept or dropped as a whole.
      - Nothing needs to have been backed up under these names yet.
    type: str
    required: true
  state:
    description:
      - With V(present) the scope has exactly this policy. A rule that is not given keeps nothing.
      - With V(absent) it has none.
    type: str
    choices:
      - present
      - absent
    default: present
  keep_last:
    description:
      - Keep so many of the newest points.
      - With V(0) and no other rule, only O(minimum) points are kept.
      - At least one rule is required when O(state=present).
    type: int
  keep_within:
    description:
      - Keep all points that are younger, as V(36h), V(14d), V(8w), V(6m) for months, or V(2y).
      - Hours are exact. The others are those of the calendar in O(time_zone).
    type: str
  hourly:
    description:
      - Keep the newest point of each hour, for so many of the newest hours that have points.
    type: int
  daily:
    description:
      - Keep the newest point of each day, for so many of the newest days that have points.
    type: int
  weekly:
    description:
      - The same by weeks, which begin on Monday.
    type: int
  monthly:
    description:
      - The same by months.
    type: int
  yearly:
    description:
      - The same by years.
    type: int
  minimum:
    description:
      - Keep at least so many of the newest complete points, whatever the rules say.
    type: int
    default: 1
  time_zone:
    description:
      - The time zone whose hours, days, weeks, months and years they are, such as V(Europe/Berlin).
    type: str
    default: UTC
seealso:
  - module: livebackup.qemu.point_info
"""

EXAMPLES = r"""
- name: Keep a day of hours, a week of days, a month of weeks and a year of months
  livebackup.qemu.policy:
    receiver_url: https://backup.example.com:8440
    receiver_token_path: /etc/livebackup/tokens/manage
    receiver_ca_path: /etc/livebackup/tls/ca.pem
    scope: group:nightly
    hourly: 24
    daily: 7
    weekly: 4
    monthly: 12
    time_zone: Europe/Berlin

- name: Keep every point that holds the database for two weeks
  livebackup.qemu.policy:
    receiver_url: https://backup.example.com:8440
    receiver_token: "{{ manage_token }}"
    scope: vm:db
    keep_within: 14d

- name: See what another policy would drop
  livebackup.qemu.policy:
    receiver_url: https://backup.example.com:8440
    receiver_token: "{{ manage_token }}"
    scope: group:nightly
    daily: 3
  check_mode: true
  diff: true
  register: foreseen

- name: Withdraw a policy
  livebackup.qemu.policy:
    receiver_url: https://backup.example.com:8440
    receiver_token: "{{ manage_token }}"
    scope: vm:db
    state: absent
"""

RETURN = r"""
policy:
  description: The policy as it is now, or would be in check mode; V(null) if the scope has none.
  returned: success
  type: dict
  sample:
    keep_last: null
    keep_within: null
    hourly: 24
    daily: 7
    weekly: 4
    monthly: 12
    yearly: null
    minimum: 1
    time_zone: Europe/Berlin
drops:
  description: The restore points, of all groups that the scope is for, that no rule keeps now. They are dropped when
    retention is applied next, in check mode they would be.
  returned: success
  type: list
  elements: dict
  contains:
    group:
      description: Group of the point.
      type: str
      sample: nightly
    point:
      description: Id of the point.
      type: str
      sample: 01JD2M3V5W6X7Y8Z9A0B1C2D3E
    cut_at:
      description: The instant whose state it holds.
      type: str
      sample: "2026-11-18T02:00:03.771Z"
    vms:
      description: Names of the VMs that it holds.
      type: list
      elements: str
      sample: [app, db]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import _module, _policies, _receiver


def main() -> None:
    """Docs above, work in module_utils/_policies.py."""
    module = AnsibleModule(
        argument_spec={
            **_receiver.ARGUMENTS,
            "scope": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "keep_last": {"type": "int"},
            "keep_within": {"type": "str"},
            "hourly": {"type": "int"},
            "daily": {"type": "int"},
            "weekly": {"type": "int"},
            "monthly": {"type": "int"},
            "yearly": {"type": "int"},
            "minimum": {"type": "int", "default": 1},
            "time_zone": {"type": "str", "default": "UTC"},
        },
        required_if=[("state", "present", _policies.RULES, True)],
        supports_check_mode=True,
    )
    _module.run(module, _policies.policy)


if __name__ == "__main__":
    main()
