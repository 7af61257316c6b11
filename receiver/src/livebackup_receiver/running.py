# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line's way to the receiver that runs on this host: its own HTTPS API.

Whoever may read the configuration and the catalog may do everything anyway, so the token needs no asking:
it is made for the call and revoked after it. The certificate must be the configured one, whoever signed it.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from ulid import ULID

from livebackup_receiver import errors
from livebackup_receiver.catalog import tokens
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.config import Config
from livebackup_receiver.errors import NotRunning, RequestRefused, SessionCommitted, SessionUnknown
from livebackup_receiver.model import Role

TIMEOUT_S = 60.0
TOKEN_LIFE = timedelta(minutes=5)
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
Body = dict[str, Any]
EXIT_CODES: dict[str, int] = {
    kind.code: kind.exit_code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ReceiverError) and "code" in vars(kind)
}


class RunningReceiver:
    """A client with a token of its own; made by ``connect``."""

    def __init__(self, config: Config, secret: str) -> None:
        self._address = ANY_ADDRESS.get(config.listen_host, config.listen_host), config.listen_port
        self._trust = _trust(config)
        self._secret = secret

    def get(self, path: str) -> Body:
        """GET below /api/v1.

        :raise NotRunning: nobody answers
        :raise ReceiverError: the receiver refuses
        """
        return self._ask("GET", path)

    def post(self, path: str, body: Body, *, timeout_s: float = TIMEOUT_S) -> Body:
        """POST below /api/v1; raises the same."""
        return self._ask("POST", path, json.dumps(body), timeout_s)

    def put(self, path: str, body: Body) -> Body:
        """PUT below /api/v1; raises the same."""
        return self._ask("PUT", path, json.dumps(body))

    def delete(self, path: str) -> Body:
        """DELETE below /api/v1, whose answer may be empty; raises the same."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, body: str | None = None, timeout_s: float = TIMEOUT_S) -> Body:
        headers = {"Authorization": f"Bearer {self._secret}", "Content-Type": "application/json"}
        connection = http.client.HTTPSConnection(*self._address, timeout=timeout_s, context=self._trust)
        try:
            connection.request(method, f"/api/v1{path}", body, headers)
            response = connection.getresponse()
            answer: Body = json.loads(response.read() or "{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotRunning(f"{self._address[0]} port {self._address[1]}", str(error)) from None
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise _refusal(path, answer["error"])
        return answer


@contextmanager
def connect(config: Config, catalog: Catalog, role: Role = Role.BACKUP) -> Iterator[RunningReceiver]:
    """A client of the receiver that runs with this configuration, if one does.

    :param role: what the client may do
    :raise NotRunning: at the first request, if nobody answers
    """
    now, name = datetime.now(UTC), f"command-line-{ULID()}"
    with catalog.write() as db:
        secret = tokens.create(db, name=name, role=role, now=now, expires_at=now + TOKEN_LIFE)[1]
    try:
        yield RunningReceiver(config, secret)
    finally:
        with catalog.write() as db:
            tokens.revoke(db, name)


def _trust(config: Config) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(config.tls_certificate))
    # The file is the receiver's own certificate, which says more than any name in it.
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _refusal(path: str, error: Body) -> Exception:
    session = path.split("/")[2].partition("?")[0] if path.count("/") > 1 else ""
    for kind in (SessionUnknown, SessionCommitted):
        if error["code"] == kind.code:
            return kind(session)
    cause, dummy, remedy = str(error["message"]).rpartition("; ")
    refused = RequestRefused(cause, remedy)
    # the same as if the command had met the error itself
    refused.exit_code = EXIT_CODES.get(error["code"], RequestRefused.exit_code)
    return refused
