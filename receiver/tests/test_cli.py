# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line as a subprocess, on a real store."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from command_line import Finished, Run, runner, write_options
from sample_store import KIB, SampleStore, Write, read_image
from tls_files import TlsFiles

from livebackup_receiver.__main__ import main
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.config import Config

# Each command is a Python that starts anew.
pytestmark = pytest.mark.timeout(300)

DISK = ("db", "vd-a")


@pytest.fixture
def options(config: Config, tmp_path: Path) -> Path:
    """The configuration as a file."""
    return write_options(config, tmp_path / "receiver.toml")


@pytest.fixture
def cli(options: Path) -> Run:
    """Runs `livebackup-receiver` with the configuration file."""
    return runner(options)


def answer(result: Finished) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def refusal(result: Finished) -> str:
    """The one line on stderr of a command that failed."""
    assert result.returncode != 0
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("livebackup-receiver: ")


def test_points_are_listed_newest_first(cli: Run, store: SampleStore) -> None:
    made = [store.add({DISK: [Write(0, KIB, 1)]}), store.add({DISK: [Write(0, KIB, 2)]})]
    listed = answer(cli("points", "--json"))["points"]
    assert [point["id"] for point in listed] == [made[1].id, made[0].id]
    assert listed[0]["vms"][0]["disks"][0]["level"] == "incremental"


def test_points_for_people_name_id_group_and_vm(cli: Run, store: SampleStore) -> None:
    point = store.add({DISK: [Write(0, KIB, 1)]})
    shown = cli("points", "--group", "nightly", "--vm", "db").stdout
    assert point.id in shown
    assert "nightly" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--group", "weekly"], "group weekly has never been backed up here"),
        (["--vm", "mail"], "VM mail is not in this receiver"),
    ],
)
def test_points_of_what_does_not_exist(cli: Run, arguments: list[str], sentence: str) -> None:
    result = cli("points", *arguments)
    assert result.returncode == 5
    assert refusal(result).startswith(sentence)


def test_a_restored_disk_is_the_disk_at_the_point(cli: Run, store: SampleStore, tmp_path: Path) -> None:
    store.add({DISK: [Write(0, 256 * KIB, 1)]})
    point = store.add({DISK: [Write(64 * KIB, 64 * KIB, 2)]})
    result = cli(
        "restore", point.id, "--vm", "db", "--to", str(tmp_path / "out"), "--format", "raw", "--json"
    )
    (file,) = answer(result)["files"]
    assert Path(file).read_bytes() == store.content[DISK]


def test_only_the_disks_that_are_asked_for_are_restored(cli: Run, store: SampleStore, tmp_path: Path) -> None:
    point = store.add({DISK: [Write(0, KIB, 1)], ("db", "vd-b"): [Write(0, KIB, 2)]})
    result = cli("restore", point.id, "--vm", "db", "--disk", "vd-b", "--to", str(tmp_path / "out"))
    assert result.stdout.split() == [str(tmp_path / "out" / "db/vd-b.qcow2")]
    content = read_image(tmp_path / "out" / "db/vd-b.qcow2", "qcow2", tmp_path)
    assert content == store.content["db", "vd-b"]


def test_a_second_restore_does_not_replace_the_first_unless_forced(
    cli: Run, store: SampleStore, tmp_path: Path
) -> None:
    point = store.add({DISK: [Write(0, KIB, 1)]})
    restore = ("restore", point.id, "--vm", "db", "--to", str(tmp_path / "out"))
    assert cli(*restore).returncode == 0
    again = cli(*restore)
    assert again.returncode == 6
    assert "already exists; restore into another directory, or replace it with --force" in refusal(again)
    assert cli(*restore, "--force").returncode == 0


@pytest.mark.parametrize(
    ("point", "vm", "disk", "sentence"),
    [
        ("01BX5ZZKBKACTAV9WEVGEMMVRZ", "db", "vd-a", "point 01BX5ZZKBKACTAV9WEVGEMMVRZ does not exist"),
        (None, "mail", "vd-a", "VM mail is not in point"),
        (None, "db", "vd-z", "disk vd-z of VM db is not in point"),
    ],
)
def test_a_restore_of_what_does_not_exist(
    cli: Run, store: SampleStore, tmp_path: Path, point: str | None, vm: str, disk: str, sentence: str
) -> None:
    made = store.add({DISK: [Write(0, KIB, 1)]})
    result = cli("restore", point or made.id, "--vm", vm, "--disk", disk, "--to", str(tmp_path / "out"))
    assert result.returncode == 5
    assert refusal(result).startswith(sentence)


def test_a_restore_from_a_missing_layer_is_refused(cli: Run, store: SampleStore, tmp_path: Path) -> None:
    point = store.add({DISK: [Write(0, KIB, 1)]})
    store.layer(point).unlink()
    result = cli("restore", point.id, "--vm", "db", "--to", str(tmp_path / "out"))
    assert result.returncode == 10
    assert refusal(result) == (
        f"disk vd-a of VM db is damaged at point {point.id}, as a whole (layer {point.id}: it is missing); "
        "take another copy of the store"
    )


def test_the_checks_of_a_good_receiver(cli: Run, store: SampleStore) -> None:
    store.add({DISK: [Write(0, KIB, 1)]})
    checks = answer(cli("check", "--json"))["checks"]
    assert {check["state"] for check in checks} == {"ok"}
    assert {"store", "room", "qemu-img", "catalog", "layers", "freshness of nightly"} <= {
        check["name"] for check in checks
    }


def test_a_missing_layer_fails_the_checks_with_exit_code_2(cli: Run, store: SampleStore) -> None:
    point = store.add({DISK: [Write(0, KIB, 1)]})
    store.layer(point).unlink()
    result = cli("check")
    assert result.returncode == 2
    assert "is missing" in result.stdout


def test_an_old_point_is_a_warning_with_exit_code_1(
    cli: Run, store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add({DISK: [Write(0, KIB, 1)]})
    monkeypatch.setenv("LIVEBACKUP_POINT_AGE_WARNING_S", "0.001")
    assert cli("check").returncode == 1


def test_the_checks_of_a_receiver_that_was_never_started(cli: Run, config: Config) -> None:
    config.store.rmdir()
    result = cli("check", "--json")
    states = {check["name"]: check["state"] for check in json.loads(result.stdout)["checks"]}
    assert result.returncode == 2
    assert {states["store"], states["catalog"], states["layers"]} == {"failed"}
    assert states["qemu-img"] == "ok"


def test_the_api_is_described() -> None:
    argv = [sys.executable, "-m", "livebackup_receiver", "openapi"]
    document = answer(subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False))
    assert "/api/v1/points/{point_id}/exports" in document["paths"]


def test_a_defect_is_no_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def break_down() -> None:
        raise RuntimeError("a defect")

    # Waist: no command has a known defect. 1 and 2 say that a check warns, or that a point has failed.
    monkeypatch.setattr("livebackup_receiver.cli.app", break_down)
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, "RuntimeError: a defect" in capsys.readouterr().err) == (70, True)


def test_the_version_is_told() -> None:
    argv = [sys.executable, "-m", "livebackup_receiver", "--version"]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
    assert told == f"livebackup-receiver {version('livebackup-receiver')}\n"


def test_a_token_is_shown_once_and_then_only_its_name(cli: Run, catalog: Catalog) -> None:
    secret = cli("token", "create", "--name", "ops", "--role", "read").stdout.strip()
    listed = cli("token", "list")
    assert secret.startswith("lb_")
    assert "ops" in listed.stdout
    assert secret not in listed.stdout


def test_a_revoked_token_is_gone(cli: Run, catalog: Catalog) -> None:
    made = answer(cli("token", "create", "--name", "ops", "--role", "restore", "--days", "1", "--json"))
    assert made["role"] == "restore"
    assert made["expires_at"] > made["created_at"]
    assert cli("token", "revoke", "ops").returncode == 0
    assert answer(cli("token", "list", "--json")) == {"tokens": []}


def test_token_names_are_unique_and_must_exist(cli: Run, catalog: Catalog) -> None:
    cli("token", "create", "--name", "ops", "--role", "read")
    assert refusal(cli("token", "create", "--name", "ops", "--role", "read")).startswith(
        "there already is a token"
    )
    assert refusal(cli("token", "revoke", "other")).startswith("there is no token named other")


def test_the_configuration_is_shown_without_secrets(cli: Run, options: Path, config: Config) -> None:
    text = options.read_text().replace("notify_urls = []", 'notify_urls = ["json://user:hunter2@host"]')
    options.write_text(text)
    shown = cli("show-config")
    assert f"store = {json.dumps(str(config.store))}" in shown.stdout
    assert "hunter2" not in shown.stdout
    assert 'notify_urls = ["json://***"]' in shown.stdout


def test_a_wrong_option_is_one_sentence_and_exit_code_2(cli: Run, options: Path) -> None:
    with options.open("a") as file:
        file.write("silense_s = 3\n")
    result = cli("points")
    assert result.returncode == 2
    assert refusal(result) == "option silense_s: there is no such option; did you mean silence_s?"


def test_a_missing_configuration_file_is_named() -> None:
    argv = [sys.executable, "-m", "livebackup_receiver", "points", "--config", "/nowhere/receiver.toml"]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert "/nowhere/receiver.toml cannot be read" in refusal(result)


def test_a_receiver_serves_until_it_is_told_to_stop(
    cli: Run, options: Path, tls: TlsFiles, config: Config, tmp_path: Path
) -> None:
    port = _free_port()
    options.write_text(options.read_text().replace("listen_port = 0", f"listen_port = {port}"))
    context = ssl.create_default_context(cafile=tls.certificate)
    with _serving(options, tmp_path / "log") as receiver:
        secret = cli("token", "create", "--name", "ops", "--role", "read").stdout.strip()
        request = Request(
            f"https://127.0.0.1:{port}/api/v1/groups", headers={"Authorization": f"Bearer {secret}"}
        )
        with urlopen(request, context=context) as response:
            assert json.load(response) == {"groups": []}
        receiver.send_signal(signal.SIGTERM)
        assert receiver.wait(30) in (0, -signal.SIGTERM)


@contextmanager
def _serving(options: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A receiver that says it is ready."""
    argv = [sys.executable, "-m", "livebackup_receiver", "serve", "--config", str(options)]
    with log.open("wb") as output, subprocess.Popen(argv, stderr=output) as receiver:
        try:
            while "ready on" not in log.read_text():
                assert receiver.poll() is None, log.read_text()
                time.sleep(0.05)
            yield receiver
        finally:
            receiver.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
