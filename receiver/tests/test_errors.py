# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import re
from collections import Counter

import pytest

from livebackup_receiver import errors
from livebackup_receiver.errors import ReceiverError

FACTS = {"int": 5, "float": 1.5, "str": "x{y}"}


def every_class(base: type[ReceiverError] = ReceiverError) -> list[type[ReceiverError]]:
    return [base, *(each for child in base.__subclasses__() for each in every_class(child))]


def sample(kind: type[ReceiverError]) -> ReceiverError:
    return kind(**{field.name: FACTS[str(field.type)] for field in dataclasses.fields(kind)})


CLASSES = every_class()
IDS = [each.__name__ for each in CLASSES]


@pytest.mark.parametrize("kind", CLASSES, ids=IDS)
def test_every_error_is_one_sentence_that_ends_with_what_to_do(kind: type[ReceiverError]) -> None:
    error = sample(kind)
    assert str(error) == f"{error.cause}; {error.remedy}"
    assert error.remedy
    assert "\n" not in str(error)
    assert not str(error).endswith(".")


@pytest.mark.parametrize("kind", CLASSES, ids=IDS)
def test_every_fact_is_part_of_the_sentence(kind: type[ReceiverError]) -> None:
    hidden = {
        errors.SessionAborted: {"session"},
        errors.CommandFailed: {"stderr"},
        errors.CommandTimedOut: {"returncode"},
    }
    said = kind.cause_template + kind.remedy_template
    unsaid = {each.name for each in dataclasses.fields(kind) if f"e.{each.name}" not in said}
    assert unsaid <= {name for base, names in hidden.items() if issubclass(kind, base) for name in names}


def test_codes_are_words_of_their_own() -> None:
    concrete = [each for each in CLASSES if not each.__subclasses__() or "code" in vars(each)]
    assert [code for code, times in Counter(each.code for each in concrete).items() if times > 1] == []
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", each.code) for each in concrete)


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    tree = {
        match[1]: (match[2], match[3])
        for match in re.finditer(r"(\w+) +(?:(\d{3}))?(?: +exit (\d+))?\n", errors.__doc__ or "")
    }
    named = re.findall(r"^[|` -]*([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    assert {each.__name__ for each in CLASSES} <= set(named)
    for kind in CLASSES:
        status, code = tree.get(kind.__name__, (None, None))
        assert status in (None, str(kind.http_status)), kind
        assert code in (None, str(kind.exit_code)), kind
