# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of all errors, and what keeps the receiver from working at all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class ReceiverError(Exception):
    """Base of all; str() is one sentence: the cause, then what to do."""

    code = "internal"
    http_status = 500
    exit_code = 1
    cause_template = "the receiver failed"
    remedy_template = "see the receiver's log"

    @property
    def cause(self) -> str:
        return self.cause_template.format(e=self)

    @property
    def remedy(self) -> str:
        return self.remedy_template.format(e=self)

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}"


@dataclass(eq=False)
class ConfigInvalid(ReceiverError):
    """An option is unknown, missing or has a value of the wrong kind."""

    option: str
    problem: str
    hint: str
    code = "config-invalid"
    exit_code = 2
    cause_template = "option {e.option}: {e.problem}"
    remedy_template = "{e.hint}"


@dataclass(eq=False)
class CatalogFailed(ReceiverError):
    """The database refused or could not be reached."""

    url: str
    problem: str
    code = "catalog-failed"
    http_status = 503
    exit_code = 3
    cause_template = "the catalog {e.url} does not answer: {e.problem}"
    remedy_template = "check the database and its free space"


@dataclass(eq=False)
class NotReady(ReceiverError):
    """The receiver is starting or stopping."""

    state: str
    code = "not-ready"
    http_status = 503
    exit_code = 3
    cause_template = "the receiver is {e.state}"
    remedy_template = "try again in a moment"


@dataclass(eq=False)
class NotRunning(ReceiverError):
    """No receiver answers on this host."""

    address: str
    problem: str
    code = "not-running"
    http_status = 503
    exit_code = 3
    cause_template = "no receiver answers at {e.address} ({e.problem})"
    remedy_template = "start it; a session that was open is aborted by that"


@dataclass(eq=False)
class RequestRefused(ReceiverError):
    """The running receiver has refused a request of the command line."""

    problem: str
    hint: str
    code = "request-refused"
    exit_code = 3
    cause_template = "{e.problem}"
    remedy_template = "{e.hint}"


@dataclass(eq=False)
class StoreBusy(ReceiverError):
    """Another receiver works in the store."""

    store: str
    code = "store-busy"
    http_status = 503
    exit_code = 3
    cause_template = "the store {e.store} is in use by another receiver"
    remedy_template = "stop that one first, or give this one a store of its own"


@dataclass(eq=False)
class StoreUnsupported(ReceiverError):
    """The store is not of the format that this version works on."""

    store: str
    problem: str
    code = "store-unsupported"
    exit_code = 8
    cause_template = "the store {e.store} cannot be used: {e.problem}"
    remedy_template = "install a livebackup-receiver as new as the one that made it"


@dataclass(eq=False)
class CatalogLost(ReceiverError):
    """There are points in the store, and the catalog has never heard of any."""

    url: str
    store: str
    code = "catalog-lost"
    http_status = 503
    exit_code = 3
    cause_template = "the catalog {e.url} is empty, and the store {e.store} is not"
    remedy_template = (
        "bring the catalog back, or make it from the store with `livebackup-receiver catalog rebuild`"
    )


@dataclass(eq=False)
class CatalogNotEmpty(ReceiverError):
    """A catalog in another database than SQLite cannot be put aside."""

    url: str
    code = "catalog-not-empty"
    exit_code = 3
    cause_template = "the catalog {e.url} is not empty, and can only be put aside if it is a SQLite file"
    remedy_template = "name an empty database in catalog_url, and rebuild again"
