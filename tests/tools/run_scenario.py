# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a molecule scenario on hosts of a lab of its own.

The lab's hosts are reachable only from inside the lab, so molecule runs there and finds them booted. With
the verb ``test`` the lab is fresh and gone afterwards; any other verb (converge, verify, ...) leaves it up
for the next one, until ``destroy``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from lab.lab import Lab  # noqa: E402  # the checkout is no installed package

HOSTS = {"receiver": ["rcv"], "hypervisor": ["hv1"], "group_backup": ["hv1", "hv2", "rcv"]}
WITH_VMS = {"group_backup"}


def molecule(lab: Lab, scenario: str, verb: str) -> int:
    """Run molecule inside the lab, its output passing through; return its exit code."""
    command = lab.box.command(["molecule", verb, "--scenario-name", scenario], cwd=ROOT)
    # What molecule remembers of the hosts goes with them, or it would not prepare the next ones.
    memory = {"MOLECULE_EPHEMERAL_DIRECTORY": str(lab.state / "molecule")}
    environment = {**os.environ, **memory, "LIVEBACKUP_INVENTORY": str(lab.inventory)}
    if not sys.stdout.isatty():
        environment |= {"NO_COLOR": "1", "COLUMNS": "160"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False
    ).returncode


def main() -> int:
    """Bring the lab up, run molecule, and take the lab down when the verb ends it."""
    parser = argparse.ArgumentParser(description="Run a molecule scenario on hosts of a lab of its own.")
    parser.add_argument("scenario", choices=sorted(HOSTS))
    parser.add_argument("verb", nargs="?", default="test", help="a verb of molecule")
    arguments = parser.parse_args()
    lab = Lab(f"molecule-{arguments.scenario}")
    if arguments.verb == "test":
        lab.down()
    try:
        lab.start(HOSTS[arguments.scenario], vms=arguments.scenario in WITH_VMS)
        return molecule(lab, arguments.scenario, arguments.verb)
    finally:
        if arguments.verb in ("test", "destroy"):
            lab.down()


if __name__ == "__main__":
    sys.exit(main())
