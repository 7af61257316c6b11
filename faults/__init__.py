# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof that a backup is right or is none, whatever breaks: every fault point, and random torture.

Real QEMUs with a tiny guest, real receivers and storage daemons, and the collection's modules as processes.
What is checked is in ``invariants.py``; it shares no code with the product.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# the machines and receivers of the modules' tests
sys.path.insert(0, str(ROOT / "tests/qemu"))
# the collection under its own name
sys.path.append(str(ROOT / "build/collections"))
