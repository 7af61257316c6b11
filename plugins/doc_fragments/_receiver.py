# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of module_utils/_receiver.py."""

from __future__ import annotations


class ModuleDocFragment:
    """How to reach the receiver from the host the task runs on."""

    DOCUMENTATION = r"""
options:
  receiver_url:
    description:
      - URL of the receiver, such as V(https://backup.example.com:8440). The port is 8440 if none is given.
      - Only HTTPS is spoken.
    type: str
    required: true
  receiver_token:
    description:
      - Token for the receiver's API.
      - If not given, it is read from O(receiver_token_path).
    type: str
  receiver_token_path:
    description:
      - File on the host the task runs on that holds the token and nothing else.
      - Not read if O(receiver_token) is given.
    type: path
    default: /etc/livebackup/token
  receiver_ca_path:
    description:
      - PEM file, on the host the task runs on, of the certificate authority that has signed the receiver's
        certificate.
    type: path
    default: /etc/livebackup/ca.pem
  receiver_timeout:
    description:
      - Seconds to wait for an answer of the receiver.
    type: float
    default: 10.0
"""
