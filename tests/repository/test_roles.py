# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles document is what they do: variables, defaults and the places the modules look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def read(role: str, name: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / role / name).read_text())


def options(role: str) -> dict[str, dict[str, Any]]:
    """The documented variables of a role."""
    return dict(read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"])


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_documented(role: str) -> None:
    assert set(read(role, "defaults/main.yml")) - set(options(role)) == set()


@pytest.mark.parametrize("role", ROLES)
def test_documented_defaults_are_the_real_ones(role: str) -> None:
    real = read(role, "defaults/main.yml")
    documented = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert documented == {name: real[name] for name in documented}


@pytest.mark.parametrize("role", ROLES)
def test_a_default_that_is_no_expression_is_documented(role: str) -> None:
    plain = {name for name, value in read(role, "defaults/main.yml").items() if "{{" not in str(value)}
    assert plain == {name for name, option in options(role).items() if "default" in option}


@pytest.mark.parametrize("role", ROLES)
def test_role_explains_itself(role: str) -> None:
    assert f"# livebackup.qemu.{role}\n" in (ROOT / "roles" / role / "README.md").read_text()


def test_roles_agree_on_the_variables_they_share() -> None:
    defaults: dict[str, Any] = {}
    for role in ROLES:
        for name, value in read(role, "defaults/main.yml").items():
            assert defaults.setdefault(name, value) == value, f"{name} of {role} differs from another role's"
