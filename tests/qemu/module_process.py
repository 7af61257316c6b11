# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one of the collection's modules: NAME and its arguments as JSON on standard input."""

from __future__ import annotations

import importlib
import json
import sys

from ansible.module_utils.testing import patch_module_args


def main() -> None:
    """Like ansible does it: arguments in, JSON out, exit status 0 or 1."""
    module = importlib.import_module(f"ansible_collections.livebackup.qemu.plugins.modules.{sys.argv[1]}")
    with patch_module_args(json.load(sys.stdin)):
        module.main()


if __name__ == "__main__":
    main()
