#!/usr/bin/python
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Show sessions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_info
short_description: Show backup sessions of a receiver
version_added: 0.1.0
author:
  - The Livebackup authors (@livebackup)
description:
  - Shows one session by its id, or lists sessions, newest first, with the state of every participant and
    disk, and why a session was aborted.
  - Sessions that were committed are restore points; M(livebackup.qemu.point_info) says what these hold.
extends_documentation_fragment:
  - livebackup.qemu._attributes
  - livebackup.qemu._attributes.info_module
  - livebackup.qemu._attributes.receiver_group
  - livebackup.qemu._receiver
options:
  id:
    description:
      - Id of the session to show.
      - Mutually exclusive with O(group) and O(state).
    type: str
  group:
    description:
      - List only sessions of this group.
    type: str
  state:
    description:
      - List only sessions that are V(open), or only those that have V(ended).
    type: str
    choices:
      - open
      - ended
  limit:
    description:
      - List at most so many.
    type: int
    default: 50
seealso:
  - module: livebackup.qemu.session
  - module: livebackup.qemu.point_info
"""

EXAMPLES = r"""
- name: Show how the last session of a group went
  livebackup.qemu.session_info:
    receiver_url: https://backup.example.com:8440
    group: nightly
    limit: 1
  register: last

- name: Fail if it was aborted
  ansible.builtin.assert:
    that: last.sessions[0].state == 'committed'
    fail_msg: "{{ last.sessions[0].reason }}"

- name: Show the progress of a session
  livebackup.qemu.session_info:
    receiver_url: https://backup.example.com:8440
    id: 01JD7FZK3M4N5P6Q7R8S9T0V1W
"""

RETURN = r"""
sessions:
  description: The sessions, newest first; the keys are those of RV(livebackup.qemu.session#module:session).
  returned: success
  type: list
  elements: dict
  sample:
    - id: 01JD7FZK3M4N5P6Q7R8S9T0V1W
      group: nightly
      policy: all
      consistency: crash
      state: aborted
      reason: "hv2 failed: VM web: no disk is tracked; run livebackup.qemu.tracking for it first."
      opened_at: "2026-11-20T02:00:00.000Z"
      ended_at: "2026-11-20T02:00:01.204Z"
      hosts: [hv1, hv2]
      participants:
        - host: hv1
          state: finished
          reason: null
          heard_at: "2026-11-20T02:00:01.310Z"
      disks: []
      transitions: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.livebackup.qemu.plugins.module_utils import _module, _receiver, _session


def main() -> None:
    """Docs above, work in module_utils/_session.py."""
    module = AnsibleModule(
        argument_spec={
            **_receiver.ARGUMENTS,
            "id": {"type": "str"},
            "group": {"type": "str"},
            "state": {"type": "str", "choices": ["open", "ended"]},
            "limit": {"type": "int", "default": 50},
        },
        mutually_exclusive=[("id", "group"), ("id", "state")],
        supports_check_mode=True,
    )
    _module.run(module, _session.session_info)


if __name__ == "__main__":
    main()
