# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection and the receiver are one product: the same version everywhere it is written."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
LOCKS = ("receiver/requirements.lock", "requirements-dev.lock", "requirements-hosts.lock")
PROJECT = tomllib.loads((ROOT / "receiver" / "pyproject.toml").read_text())["project"]


def test_collection_and_receiver_have_one_version() -> None:
    assert PROJECT["version"] == VERSION


def test_receiver_in_the_environment_is_the_one_of_the_checkout() -> None:
    assert metadata.version("livebackup-receiver") == VERSION


def test_role_installs_the_receiver_of_this_version() -> None:
    defaults = yaml.safe_load((ROOT / "roles" / "receiver" / "defaults" / "main.yml").read_text())
    assert defaults["livebackup_receiver_requirement"] == f"livebackup-receiver=={VERSION}"


def locked(name: str) -> dict[str, str]:
    """Package and version of each line of a lock file."""
    lines = (ROOT / name).read_text().splitlines()
    pins = (line.removesuffix(" \\") for line in lines if "==" in line and not line.startswith(" "))
    pairs = (pin.split("==") for pin in pins)
    return {package.replace("_", "-"): version for package, version in pairs}


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
@pytest.mark.parametrize("name", LOCKS[:2])
def test_lock_satisfies_what_the_receiver_requires(name: str, requirement: str) -> None:
    wanted = Requirement(requirement)
    version = locked(name).get(wanted.name.lower().replace(".", "-"))
    assert version is not None, f"{wanted.name} is not in {name}; run make lock"
    assert wanted.specifier.contains(version), f"{name} has {wanted.name} {version}; run make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_no_index(name: str) -> None:
    assert "://" not in (ROOT / name).read_text().partition("unsafe in a requirements file")[0]


@pytest.mark.parametrize("page", ["README.md", "docs/docsite/rst/quickstart.rst"])
def test_the_files_of_this_version_are_the_ones_named(page: str) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(r"(?:livebackup-qemu|livebackup_receiver)-([0-9][0-9.]*[0-9])", text)
    assert set(named) == {VERSION}
