# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each guest is brought to rest before the cut: pure. For internal use of livebackup.qemu only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils._errors import OptionError

MODES = ("none", "try", "require")
# What the session's consistency asks of a VM of which nothing else is said.
DEFAULTS = {"crash": "none", "filesystem": "require"}

Command = tuple[str, ...]


@dataclass(frozen=True)
class Hooks:
    """Commands to run in the guest: ``freeze`` before its file systems are frozen, ``thaw`` after."""

    freeze: Command
    thaw: Command


@dataclass(frozen=True)
class Quiesce:
    """What the operator wants, by VM; VMs of other hosts may be named too."""

    modes: dict[str, str] = field(default_factory=dict)
    hooks: dict[str, Hooks] = field(default_factory=dict)

    def mode(self, vm: str, consistency: str) -> str:
        """none, try or require; a VM with hooks is never left unfrozen unasked."""
        default = "require" if vm in self.hooks else DEFAULTS[consistency]
        return self.modes.get(vm, default)


def from_options(quiesce: dict[str, Any] | None, guest_hooks: dict[str, Any] | None) -> Quiesce:
    """The module's options. Raises OptionError."""
    modes = {vm: _mode(vm, mode) for vm, mode in (quiesce or {}).items()}
    hooks = {vm: _hooks(vm, given) for vm, given in (guest_hooks or {}).items()}
    for vm in hooks:
        if modes.get(vm) == "none":
            raise OptionError(
                f"guest_hooks are given for VM {vm}, but quiesce says none for it, so they would never run; "
                f"set quiesce to try or require or remove the hooks.",
                vm=vm,
            )
    return Quiesce(modes, hooks)


def _mode(vm: str, mode: Any) -> str:
    if mode not in MODES:
        raise OptionError(
            f"quiesce of VM {vm} is {mode}; give one of {', '.join(MODES)}.", vm=vm, quiesce=mode
        )
    return str(mode)


def _hooks(vm: str, given: Any) -> Hooks:
    commands = given if isinstance(given, dict) else {}
    if set(commands) != {"freeze", "thaw"} or not all(map(_is_command, commands.values())):
        raise OptionError(
            f"guest_hooks of VM {vm} must be freeze and thaw, each a list of a program's path in the "
            f"guest and its arguments; correct them.",
            vm=vm,
        )
    return Hooks(tuple(commands["freeze"]), tuple(commands["thaw"]))


def _is_command(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)
