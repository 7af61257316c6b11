# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, argument specs, fragments and action groups say the same."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic

PLUGINS = Path(__file__).parents[4] / "plugins"
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))
PACKAGE = "ansible_collections.livebackup.qemu.plugins"
KEYS = ("type", "default", "choices", "elements", "required", "aliases")


def load(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.modules.{name}")


def documented(name: str) -> dict[str, Any]:
    """A module's documentation with its fragments."""
    found: dict[str, Any] = yaml.safe_load(load(name).DOCUMENTATION)
    for reference in found["extends_documentation_fragment"]:
        file, _dot, variant = reference.removeprefix("livebackup.qemu.").partition(".")
        fragment = importlib.import_module(f"{PACKAGE}.doc_fragments.{file}").ModuleDocFragment
        part = yaml.safe_load(getattr(fragment, variant.upper() or "DOCUMENTATION"))
        for section in ("options", "attributes"):
            merge(found.setdefault(section, {}), part.get(section) or {})
    return found


def merge(into: dict[str, Any], part: dict[str, Any]) -> None:
    """Add what is not there yet, as ansible does with fragments."""
    for name, details in part.items():
        into[name] = {**details, **into.get(name, {})}


class Stopped(Exception):
    """The module has shown its argument spec."""


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def init(dummy: Any, **options: Any) -> None:
        seen.update(options)
        raise Stopped

    monkeypatch.setattr(basic.AnsibleModule, "__init__", init)
    with pytest.raises(Stopped):
        load(name).main()
    assert seen["supports_check_mode"]
    spec: dict[str, Any] = seen["argument_spec"]
    return spec


@pytest.mark.parametrize("name", MODULES)
def test_options_are_documented_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = documented(name)["options"]
    spec = argument_spec(name, monkeypatch)
    assert options.keys() == spec.keys()
    for option, details in spec.items():
        for key in KEYS:
            assert options[option].get(key) == details.get(key), (option, key)


@pytest.mark.parametrize("name", MODULES)
def test_action_groups_are_those_of_the_options(name: str) -> None:
    groups = yaml.safe_load((PLUGINS.parent / "meta/runtime.yml").read_text())["action_groups"]
    documentation = documented(name)
    membership = documentation["attributes"]["action_group"]["membership"]
    assert membership == [f"livebackup.qemu.{group}" for group in sorted(groups) if name in groups[group]]
    options = documentation["options"]
    assert ("qmp_sockets" in options) == (name in groups["qmp"])
    assert ("receiver_url" in options) == (name in groups["receiver"])


def test_groups_name_only_modules_that_exist() -> None:
    groups = yaml.safe_load((PLUGINS.parent / "meta/runtime.yml").read_text())["action_groups"]
    assert {name for names in groups.values() for name in names} == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_and_returns_are_yaml_and_use_full_names(name: str) -> None:
    module = load(name)
    assert f"livebackup.qemu.{name}:" in module.EXAMPLES
    assert yaml.safe_load(module.EXAMPLES)
    for key, value in yaml.safe_load(module.RETURN).items():
        assert {"description", "returned", "type"} <= value.keys(), key
        assert "sample" in value or "contains" in value, key


@pytest.mark.parametrize("name", MODULES)
def test_what_is_only_partly_supported_is_explained(name: str) -> None:
    for attribute, details in documented(name)["attributes"].items():
        assert "support" in details, attribute
        assert details["support"] != "partial" or details.get("details"), attribute


def test_utils_are_marked_as_internal() -> None:
    for path in (PLUGINS / "module_utils").glob("*.py"):
        assert path.name.startswith("_")
        docstring = " ".join(path.read_text().split('"""')[1].split())
        assert "internal use" in docstring, path.name


def test_no_util_exits() -> None:
    for path in (PLUGINS / "module_utils").glob("*.py"):
        exits = re.search(r"\.(fail_json|exit_json)\(|sys\.exit", path.read_text())
        assert path.name == "_module.py" or not exits, path
