# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The frame of every module: the one place that exits. For internal use of livebackup.qemu only."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.livebackup.qemu.plugins.module_utils._deps import require_qemu_qmp, require_restore
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import LivebackupError

Function = Callable[[dict[str, Any], bool], dict[str, Any]]


def run(
    module: AnsibleModule, function: Function, *, needs_qmp: bool = False, needs_restore: bool = False
) -> None:
    """Call ``function(params, check_mode)`` and leave with its result.

    The function returns what exit_json takes; ``warnings`` in it become warnings of the task. Its
    LivebackupErrors become one sentence and an ``error`` dictionary with ``code`` and the facts.
    """
    try:
        if needs_qmp:
            require_qemu_qmp()
        if needs_restore:
            require_restore()
        result = function(module.params, module.check_mode)
    except LivebackupError as error:
        for warning in error.facts.pop("warnings", []):
            module.warn(warning)
        module.fail_json(msg=error.message, error=error.details(), exception=traceback.format_exc())
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result)
