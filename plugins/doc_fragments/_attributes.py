# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module says about check mode, diffs and groups."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes; the variants fill them in for modules that only read, and for the action groups."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when
      in diff mode.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation
      indicates no change.
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: linux
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
    details:
      - This action does not modify state.
"""

    QMP_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/livebackup.qemu.qmp) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - livebackup.qemu.qmp
"""

    RECEIVER_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/livebackup.qemu.receiver) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - livebackup.qemu.receiver
"""

    BOTH_GROUPS = r"""
options: {}
attributes:
  action_group:
    description: >-
      Use C(group/livebackup.qemu.qmp) and C(group/livebackup.qemu.receiver) in C(module_defaults) to set
      defaults for this module.
    support: full
    membership:
      - livebackup.qemu.qmp
      - livebackup.qemu.receiver
"""
