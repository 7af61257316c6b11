# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of the receiver, its default and why; read nowhere else.

The options come from one TOML file and from the environment (``LIVEBACKUP_`` and the name in
capitals), which wins. A key that is no option is an error with a suggestion, so that a typing
mistake is found at start and not at the first restore.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from pydantic_settings.sources import PydanticBaseSettingsSource

from livebackup_receiver.errors import ConfigInvalid
from livebackup_receiver.misspelling import refuse_misspelt, refuse_unknown

ENVIRONMENT_PREFIX = "LIVEBACKUP_"
DEFAULT_PATH = Path("/etc/livebackup/receiver.toml")
# Read by the command line to find the file, so it is no option itself.
PATH_VARIABLE = "LIVEBACKUP_CONFIG"


class Config(BaseSettings):
    """The effective configuration; frozen."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True)

    store: Path = Field(
        description="Directory of the layers and manifests, on a file system that keeps fsync."
    )
    volumes: list[Path] = Field(
        default=[],
        description="Further directories for layers, each on a file system of its own; a new disk is placed "
        "where the most room is.",
    )
    catalog_url: str = Field(
        default="",
        description="SQLAlchemy URL of the catalog; empty: SQLite in <store>/catalog.sqlite3.",
    )
    listen_host: str = Field(default="0.0.0.0", description="Address of the HTTPS API and page.")
    listen_port: int = Field(default=8440, ge=0, le=65535, description="Port of the HTTPS API and page.")
    tls_certificate: Path = Field(description="PEM file of the certificate, with the chain if there is one.")
    tls_key: Path = Field(description="PEM file of the certificate's private key.")
    nbd_listen: str = Field(default="0.0.0.0", description="Address on which the storage daemons serve NBD.")
    nbd_ports: str = Field(
        default="10810-10899",
        description="First and last port for NBD; each running session and each export takes one.",
    )
    silence_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds without a word from a participant after which it counts as failed. While VMs "
        "are stopped the session's stop budget and 5 seconds are used instead.",
    )
    join_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="Seconds for all hosts of a session to join, if the request that opens it does not say.",
    )
    min_free_bytes: int = Field(
        default=1 << 30,
        ge=0,
        description="Free bytes of the store that a session must leave; one that would not is refused, or "
        "aborted.",
    )
    stall_alarm_s: float = Field(
        default=60.0,
        gt=0,
        description="Seconds without progress of any disk of a host, be it reading or sending, after which "
        "the session shows an alarm.",
    )
    stall_abort_s: float = Field(
        default=900.0,
        gt=0,
        description="Seconds of the same after which the session is aborted, or with the policy each goes on "
        "without the host.",
    )
    flush_timeout_s: float = Field(
        default=120.0, gt=0, description="Seconds for the final flush of all layers of a session."
    )
    storage_daemon_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds for a storage daemon to carry out a command; closing a layer may have to write "
        "what the page cache still holds.",
    )
    export_ttl_s: float = Field(
        default=24 * 3600.0,
        gt=0,
        description="Seconds without a read after which an export of a point is taken away.",
    )
    lease_ttl_s: float = Field(
        default=30 * 24 * 3600.0,
        gt=0,
        description="Seconds without a use after which the lease of an instant restore ends, and its "
        "point is left to the policies.",
    )
    browse_ttl_s: float = Field(
        default=600.0, gt=0, description="Seconds without use after which the guest that shows files ends."
    )
    browse_limit: int = Field(default=2, ge=1, description="Most such guests at once, of about 1 GiB each.")
    browse_cache: Path = Field(
        default=Path("/var/cache/livebackup"), description="Where the system of these guests is kept."
    )
    point_age_warning_s: float = Field(
        default=26 * 3600.0, gt=0, description="Age of a group's newest point from which the check warns."
    )
    max_chain_depth: int = Field(
        default=50,
        ge=2,
        description="Most layers of a chain; if there are more, dropped ones are merged. QEMU reads a chain "
        "of 50 two to four times slower than one file, one of 200 thirty-five times.",
    )
    compression: Literal["none", "zstd"] = Field(
        default="none",
        description="zstd: layers are compressed when nothing else is to be done. They stay plain qcow2, and "
        "take a processor to read.",
    )
    encryption: Literal["none", "luks"] = Field(
        default="none",
        description="luks: new layers are encrypted (qcow2 with LUKS, AES-256) with the first of "
        "encryption_keys. Restored disks are plain.",
    )
    encryption_keys: list[Path] = Field(
        default=[],
        validate_default=True,
        description="Files of keys, read at start, outside the store: the first one is for new layers, all "
        "of them open the layers that there are. Without its key a layer is lost.",
    )
    consolidation_bytes_per_s: int = Field(
        default=100 << 20,
        ge=0,
        description="Most bytes per second that merging layers copies, a tenth of it while sessions run; 0: "
        "no limit. Where the file system shares extents nothing is copied.",
    )
    retention_automatic: bool = Field(
        default=True,
        description="Whether the receiver itself drops the points that no rule keeps: after each backup of "
        "their group, and once an hour. If false, `livebackup-receiver retention apply` does it.",
    )
    scrub_days: float = Field(
        default=30.0,
        ge=0,
        description="Days in which the whole store is read back once and compared with its digests, a share "
        "of it each day; 0: never.",
    )
    scrub_bytes_per_s: int = Field(
        default=50 << 20,
        ge=0,
        description="Most bytes per second that reading the store back takes, a tenth of it while sessions "
        "run; 0: no limit.",
    )
    rehearsal_files: Path | None = Field(
        default=None,
        description="Directory of the kernels and initial RAM disks that recovery plans name; needed only "
        "for those.",
    )
    rehearsal_accelerators: list[Literal["kvm", "tcg"]] = Field(
        default=["kvm", "tcg"],
        min_length=1,
        description="What runs the processors of rehearsed VMs, the first of these that works: kvm, or tcg, "
        "which works everywhere and is ten times slower.",
    )
    rehearsal_overlay_bytes: int = Field(
        default=4 << 30,
        ge=16 << 20,
        description="Most bytes that a guest of a rehearsal may write to each of its disks; they are kept in "
        "the store until it ends.",
    )
    rehearsals_kept: int = Field(
        default=30, ge=1, description="How many rehearsals of each group are kept, the newest of them."
    )
    check_interval_s: float = Field(
        default=300.0, gt=0, description="Seconds between two runs of all checks while the receiver serves."
    )
    notify_urls: list[str] = Field(
        default=[],
        description="Apprise URLs told about what notify_on lists, such as mailto:// or slack://; hidden by "
        "show-config, because they may hold secrets.",
    )
    notify_on: list[Literal["aborted", "alarms", "committed", "checks"]] = Field(
        default=["aborted", "alarms", "checks"],
        description="What is told: aborted sessions, alarms of sessions without progress, committed "
        "sessions, checks that begin or cease to fail.",
    )
    log_level: str = Field(
        default="INFO", description="Least level of log lines: DEBUG, INFO, WARNING or ERROR."
    )

    @field_validator("store", "volumes", "rehearsal_files")
    @classmethod
    def _check_absolute(cls, paths: Path | list[Path] | None) -> Path | list[Path] | None:
        # Directories of disks on other volumes are symbolic links, which a relative path would lead astray.
        for path in paths if isinstance(paths, list) else [paths]:
            if path is not None and not path.is_absolute():
                raise ValueError(f"{path} does not begin with a /")
        return paths

    @field_validator("encryption_keys")
    @classmethod
    def _check_encryption(cls, paths: list[Path], info: ValidationInfo) -> list[Path]:
        if info.data.get("encryption") == "luks":
            if not paths:
                raise ValueError("encryption is luks, and no key is named")
            if info.data.get("compression") == "zstd":
                raise ValueError("QEMU does not compress what it encrypts; leave compression or encryption")
        return paths

    @field_validator("nbd_ports")
    @classmethod
    def _check_ports(cls, text: str) -> str:
        first, dash, last = text.partition("-")
        numbers = [int(part) for part in (first, last if dash else first) if part.strip().isdigit()]
        if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1] <= 65535:
            raise ValueError('give the first and last port, such as "10810-10899"')
        return text

    @field_validator("log_level")
    @classmethod
    def _check_log_level(cls, text: str) -> str:
        if text not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError("use DEBUG, INFO, WARNING or ERROR")
        return text

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @property
    def ports(self) -> range:
        """The NBD ports as a range."""
        first, dash, last = self.nbd_ports.partition("-")
        return range(int(first), int(last if dash else first) + 1)

    @property
    def database_url(self) -> str:
        """The catalog's URL, with the default filled in."""
        return self.catalog_url or f"sqlite:///{self.store}/catalog.sqlite3"


def load(path: Path | None = None) -> Config:
    """Read the options from a file and the environment.

    :param path: the TOML file; None: $LIVEBACKUP_CONFIG, else /etc/livebackup/receiver.toml
    :raise ConfigInvalid: the file cannot be read, or an option is unknown, missing or wrong
    """
    path = path or Path(os.environ.get(PATH_VARIABLE, DEFAULT_PATH))
    return build(_read_file(path))


def build(options: Mapping[str, Any]) -> Config:
    """Make the configuration of options and the environment.

    :raise ConfigInvalid: an option is unknown, missing or wrong
    """
    for name in options:
        refuse_unknown(name, known=list(Config.model_fields))
    refuse_misspelt(os.environ, known=list(Config.model_fields), prefix=ENVIRONMENT_PREFIX)
    try:
        return Config(**options)
    except ValidationError as error:
        raise _first_problem(error) from None
    except SettingsError as error:
        raise ConfigInvalid("environment", str(error), "write lists as JSON") from None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(
            "--config",
            f"{path} cannot be read ({error.strerror})",
            f"name a readable file, or set {PATH_VARIABLE}",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid("--config", f"{path} is not TOML ({error})", "correct that line") from None


def _first_problem(error: ValidationError) -> ConfigInvalid:
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return ConfigInvalid(name, "it is not set", "set it in the configuration file")
    option = Config.model_fields.get(name)
    return ConfigInvalid(
        name,
        problem["msg"].removeprefix("Value error, "),
        option.description or "" if option else "correct it",
    )
