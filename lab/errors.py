# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong in the lab.

    LabError
      ToolMissing        a program the lab needs is not installed
      CommandFailed      a program ended with a failure; carries its output
      TimedOut           something awaited did not happen in time
      NotRunning         a lab, host, virtual machine or agent that has to be up is not
      UnknownName        a host or virtual machine the topology does not have
      CommandRefused     QEMU's monitor or the guest agent answered with an error
      ImageDamaged       a disk image whose file system or records cannot be read

Every message is one sentence that names the object, the cause and what to do.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence


class LabError(Exception):
    """Base of all errors of the lab."""

    exit_code = 1


class ToolMissing(LabError):
    def __init__(self, tool: str, package: str) -> None:
        super().__init__(f"The program {tool} is missing; install the Debian package {package}.")
        self.tool = tool
        self.package = package


class CommandFailed(LabError):
    def __init__(
        self, argv: Sequence[str], returncode: int, stdout: str, stderr: str, where: str = ""
    ) -> None:
        said = (stderr.strip() or stdout.strip() or "no output").splitlines()[-1]
        super().__init__(
            f"The command `{shlex.join(argv)}`{where} failed with exit status {returncode}: {said}"
        )
        self.argv = list(argv)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


class TimedOut(LabError):
    def __init__(self, awaited: str, seconds: float) -> None:
        super().__init__(f"Waited {seconds:g} s in vain until {awaited}; look at `python -m lab status`.")
        self.awaited = awaited
        self.seconds = seconds


class NotRunning(LabError):
    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} is not running; {remedy}.")
        self.what = what


class UnknownName(LabError):
    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"The lab has no {kind} named {name}; choose one of {', '.join(known)}.")
        self.kind = kind
        self.name = name


class CommandRefused(LabError):
    def __init__(self, peer: str, command: str, reason: str) -> None:
        super().__init__(f"{peer} refused {command}: {reason}.")
        self.command = command
        self.reason = reason


class ImageDamaged(LabError):
    def __init__(self, image: str, reason: str) -> None:
        super().__init__(f"The image {image} cannot be read: {reason}; it is no usable copy of a disk.")
        self.image = image
        self.reason = reason
