# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenAPI document that both sides are tested against.

``python -m livebackup_receiver.api.contract > tests/contract/openapi.json`` writes it anew.
"""

from __future__ import annotations

import json
import sys

from livebackup_receiver.api.app import routed_app


def openapi_document() -> str:
    """The document as the repository keeps it: only the API, sorted, with a newline at its end."""
    document = routed_app().openapi()
    document["paths"] = {path: what for path, what in document["paths"].items() if path.startswith("/api/")}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_document())
