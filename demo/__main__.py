# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m demo`: two hypervisors, three VMs and a receiver; back up, restore, and prove it."""

from __future__ import annotations

import os
import sys
import time

from rich.console import Console

from demo import kept, story
from demo.proofs import Refuted
from demo.site import PlayFailed, Site
from lab.errors import LabError
from lab.lab import Lab

LAB = "demo"


def main() -> int:
    """Exit status 0 only if every proof held."""
    console = Console(highlight=False, soft_wrap=True)
    lab = Lab(LAB)
    lab.down()
    try:
        return run(lab, console)
    except (PlayFailed, Refuted, LabError) as error:
        console.print(f"demo: failed: {error}", markup=False)
        return 1
    finally:
        if not os.environ.get("KEEP"):
            lab.down()


def run(lab: Lab, console: Console) -> int:
    """Tell the story and prove it, line by line."""
    started = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - started:6.1f} s  {text}", markup=False)

    say("boot two hypervisors, a receiver and three guests")
    lab.start()
    site = Site(lab)
    evidence = story.tell(site, say)
    held = []
    for proof in story.prove(site, evidence):
        held.append(proof)
        say(f"proved: {proof.claim} ({proof.detail})")
    if os.environ.get("KEEP"):
        console.print(kept.show(site), markup=False)
    console.print(story.last_line(evidence, held), markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
