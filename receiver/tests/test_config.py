# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from livebackup_receiver import config
from livebackup_receiver.errors import ConfigInvalid

SMALLEST = 'store = "/srv/backup"\ntls_certificate = "/etc/r.crt"\ntls_key = "/etc/r.key"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "receiver.toml"
    file.write_text(SMALLEST)
    return file


def add(path: Path, line: str) -> Path:
    path.write_text(path.read_text() + line + "\n")
    return path


def test_the_smallest_file_is_enough(path: Path) -> None:
    options = config.load(path)
    assert options.store == Path("/srv/backup")
    assert (options.listen_port, options.ports) == (8440, range(10810, 10900))
    assert options.database_url == "sqlite:////srv/backup/catalog.sqlite3"


def test_the_environment_wins(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEBACKUP_LISTEN_PORT", "9000")
    monkeypatch.setenv("LIVEBACKUP_NOTIFY_URLS", '["json://localhost"]')
    options = config.load(add(path, "listen_port = 8000"))
    assert options.listen_port == 9000
    assert options.notify_urls == ["json://localhost"]


def test_the_file_may_be_named_in_the_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(config.PATH_VARIABLE, str(path))
    assert config.load().store == Path("/srv/backup")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("silense_s = 5", "option silense_s: there is no such option; did you mean silence_s\\?"),
        ("colour = 1", "option colour: there is no such option; see the list with"),
        ('listen_port = "many"', "option listen_port: Input should be a valid integer"),
        ("silence_s = 0", "option silence_s: Input should be greater than 0"),
        ('nbd_ports = "10-5"', "option nbd_ports: give the first and last port"),
        ('log_level = "LOUD"', "option log_level: use DEBUG, INFO, WARNING or ERROR"),
        ("listen_port =", "receiver.toml is not TOML"),
    ],
)
def test_a_mistake_is_named(path: Path, line: str, sentence: str) -> None:
    with pytest.raises(ConfigInvalid, match=sentence):
        config.load(add(path, line))


def test_a_missing_option_is_named(path: Path) -> None:
    path.write_text('store = "/srv/backup"\n')
    with pytest.raises(ConfigInvalid, match="option tls_certificate: it is not set"):
        config.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        config.load(tmp_path / "none.toml")


def test_a_misspelt_variable_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEBACKUP_SILENCES", "5")
    with pytest.raises(ConfigInvalid, match="did you mean LIVEBACKUP_SILENCE_S"):
        config.load(path)


def test_variables_of_other_programs_are_none_of_ours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEBACKUP_LAB", "box")
    monkeypatch.setenv("LIVEBACKUP_VMS", "db")
    config.load(path)


def test_a_list_in_the_environment_must_be_json(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEBACKUP_NOTIFY_URLS", "json://localhost")
    with pytest.raises(ConfigInvalid, match="write lists as JSON"):
        config.load(path)


@pytest.mark.parametrize(
    ("text", "ports"), [("10810-10812", range(10810, 10813)), ("5000", range(5000, 5001))]
)
def test_ports(path: Path, text: str, ports: range) -> None:
    assert config.load(add(path, f'nbd_ports = "{text}"')).ports == ports


def test_every_option_is_described() -> None:
    assert all(field.description for field in config.Config.model_fields.values())
