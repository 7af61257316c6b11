# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the collection's modules, each as a process of its own, without importing them anew each time.

Reads one JSON object a line: ``name``, ``arguments``, ``environment``, ``output``; answers with the process
id that has ``started``, and later with the one that has ``ended``. Ansible does the same, only slower.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import sys
from typing import Any, NoReturn

from ansible.module_utils.testing import patch_module_args

MODULES = ("backup", "tracking")
PREFIX = "ansible_collections.livebackup.qemu.plugins.modules"
POLL_S = 0.02


def main() -> None:
    """Serve until standard input ends."""
    modules = {name: importlib.import_module(f"{PREFIX}.{name}") for name in MODULES}
    pending = b""
    while True:
        readable, _writable, _exceptional = select.select([0], [], [], POLL_S)
        if readable:
            data = os.read(0, 1 << 20)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _say({"started": _start(modules, json.loads(line))})
        _reap()


def _start(modules: dict[str, Any], request: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        _live(modules[request["name"]], request)
    return child


def _live(module: Any, request: dict[str, Any]) -> NoReturn:
    status = 1
    try:
        os.environ.update(request["environment"])
        output = os.open(request["output"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        with patch_module_args(request["arguments"]):
            module.main()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(status)


def _reap() -> None:
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _say({"ended": ended[0], "status": ended[1]})
    except ChildProcessError:
        pass


def _say(message: dict[str, int]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
