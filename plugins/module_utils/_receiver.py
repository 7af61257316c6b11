# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The receiver's API. For internal use of livebackup.qemu only.

One kept-alive connection, because at the barrier of the cut every round trip is a pause of the guests. The
options are documented in doc_fragments/_receiver.py; a unit test compares the two.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import urllib.parse
from collections.abc import Iterator
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    OptionError,
    ReceiverError,
    ReceiverOther,
    ReceiverRefused,
    ReceiverUnreachable,
    ReceiverUntrusted,
)

ARGUMENTS: dict[str, Any] = {
    "receiver_url": {"type": "str", "required": True},
    "receiver_token": {"type": "str", "no_log": True},
    "receiver_token_path": {"type": "path", "default": "/etc/livebackup/token", "no_log": False},
    "receiver_ca_path": {"type": "path", "default": "/etc/livebackup/ca.pem"},
    "receiver_timeout": {"type": "float", "default": 10.0},
}
DEFAULT_PORT = 8440
# the collection's own, which galaxy.yml says, too
VERSION = "0.1.0"
# before the first byte, the receiver may have to read gigabytes
DOWNLOAD_TIMEOUT = 120.0
_ABOUT_THE_TOKEN = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


class Receiver:
    """A client of one receiver.

    Raises ReceiverUnreachable, ReceiverRefused; not for use by several threads.
    """

    def __init__(self, *, url: str, token: str, token_from: str, ca_path: str, timeout: float) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise OptionError(
                f"receiver_url {url} is not an https URL; give it as https://HOST:{DEFAULT_PORT}.",
                receiver_url=url,
            )
        self.url = url
        self.host = parts.hostname
        self._options: dict[str, Any] = {
            "url": url,
            "token": token,
            "token_from": token_from,
            "ca_path": ca_path,
            "timeout": timeout,
        }
        self._token = token
        self._token_from = token_from
        self._timeout = timeout
        self._connection = http.client.HTTPSConnection(
            parts.hostname, parts.port or DEFAULT_PORT, timeout=timeout, context=_tls(ca_path)
        )

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Receiver:
        """From a module's parameters. Raises OptionError."""
        return cls(
            url=params["receiver_url"],
            token=params["receiver_token"] or _read_token(params["receiver_token_path"]),
            token_from="receiver_token" if params["receiver_token"] else params["receiver_token_path"],
            ca_path=params["receiver_ca_path"],
            timeout=params["receiver_timeout"],
        )

    def again(self) -> Receiver:
        """A second client of the same receiver, for when another thread may still wait with this one."""
        return Receiver(**self._options)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """GET below /api/v1; parameters that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", f"{path}?{urllib.parse.urlencode(given)}" if given else path)

    def post(
        self, path: str, body: dict[str, Any], *, timeout: float | None = None, idempotent: bool = True
    ) -> dict[str, Any]:
        """POST below /api/v1; ``timeout`` in seconds if not the usual one."""
        return self._call("POST", path, body, timeout=timeout, idempotent=idempotent)

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """PUT below /api/v1."""
        return self._call("PUT", path, body)

    @contextlib.contextmanager
    def download(self, path: str) -> Iterator[http.client.HTTPResponse]:
        """GET below /api/v1 whose answer is not JSON; it is read in the body, piece by piece."""
        connection = self.again()._connection
        connection.timeout = DOWNLOAD_TIMEOUT
        try:
            connection.request("GET", f"/api/v1{path}", headers={"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                decode(response.status, response.read(), self.url)
            yield response
        except ReceiverRefused as error:
            raise _refusal(error, self.url, self._token_from) from None
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.url, error) from error
        finally:
            connection.close()

    def delete(self, path: str) -> None:
        """DELETE below /api/v1."""
        self._call("DELETE", path)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._connection.close()

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotent: bool = True,
    ) -> dict[str, Any]:
        reused = self._connection.sock is not None
        try:
            return self._request(method, path, body, timeout or self._timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # a kept connection may have been closed by the other side while it was idle
            if reused and idempotent and not isinstance(error, socket.timeout):
                return self._call(method, path, body, timeout=timeout)
            raise _unreachable(self.url, error) from error

    def _request(self, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> dict[str, Any]:
        connection = self._connection
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        try:
            return decode(response.status, response.read(), self.url)
        except ReceiverRefused as error:
            raise _refusal(error, self.url, self._token_from) from None


@contextlib.contextmanager
def connected(params: dict[str, Any]) -> Iterator[Receiver]:
    """A client from a module's parameters, closed at the end. Raises OptionError."""
    receiver = Receiver.from_params(params)
    try:
        yield receiver
    finally:
        receiver.close()


def require_same_version(receiver: Receiver) -> None:
    """Raise ReceiverOther if the receiver is older or newer than this collection; the last number is free."""
    found = str(receiver.get("/health").get("version", "unknown"))
    theirs, ours = (_release(version) for version in (found, VERSION))
    if theirs != ours:
        older = "older" if theirs < ours else "newer"
        raise ReceiverOther(
            f"The receiver at {receiver.url} has version {found}, which is {older} than version {VERSION} of "
            "this collection; install both in the same version.",
            receiver_version=found,
            collection_version=VERSION,
        )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])


def _tls(ca_path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_path)
    except OSError as error:
        raise OptionError(
            f"The certificate authority file {ca_path} cannot be read: {error}; copy the receiver's "
            f"CA certificate to this host or correct receiver_ca_path.",
            receiver_ca_path=ca_path,
        ) from error


def decode(status: int, data: bytes, url: str) -> dict[str, Any]:
    """The body of an answer. Raises ReceiverRefused for the receiver's errors, ReceiverError for others."""
    if status == http.client.NO_CONTENT:
        return {}
    try:
        body: dict[str, Any] = json.loads(data)
        if status < http.client.BAD_REQUEST:
            return body
        error = body["error"]
        raise ReceiverRefused(error["message"], code=error["code"], status=status)
    except (ValueError, KeyError, TypeError) as error:
        raise ReceiverError(
            f"What answers at {url} is not a Livebackup receiver (HTTP status {status}); correct "
            "receiver_url.",
            receiver_url=url,
            status=status,
        ) from error


def _read_token(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError) as error:
        raise OptionError(
            f"The token file {path} cannot be read: {error}; apply the role livebackup.qemu.hypervisor or "
            "give receiver_token or receiver_token_path.",
            receiver_token_path=path,
        ) from error


def _refusal(error: ReceiverRefused, url: str, token_from: str) -> ReceiverRefused:
    """The same, and if it is about the token, it says which that was."""
    if error.status not in _ABOUT_THE_TOKEN:
        return error
    message = f"The receiver at {url} refuses the token from {token_from}: {error.message}"
    return ReceiverRefused(message, code=error.code, status=error.status)


def _unreachable(url: str, error: Exception) -> ReceiverUnreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ReceiverUntrusted(
            f"The certificate of the receiver at {url} cannot be trusted: {error.verify_message}; run "
            "livebackup.qemu.deploy to renew it and to copy its authority here, or correct receiver_url or "
            "receiver_ca_path.",
            receiver_url=url,
        )
    return ReceiverUnreachable(
        f"The receiver at {url} does not answer: {_reason(error)}; check receiver_url and that the receiver "
        "runs.",
        receiver_url=url,
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
