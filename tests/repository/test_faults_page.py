# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page "What happens when ..." and the fault suite tell the same."""

from __future__ import annotations

from faults import changes, combinations, kinds, outcomes


def test_the_page_is_made_of_the_table() -> None:
    assert outcomes.PAGE.read_text() == outcomes.page(), "run: python -m faults page"


def test_every_combination_has_a_row() -> None:
    assert [each.name for each in combinations.every() if outcomes.row_of(each.name) is None] == []


def test_every_row_is_about_something_the_suites_do() -> None:
    names = [each.name for each in combinations.every()]
    told = {outcomes.row_of(name) for name in names}
    silent = [row.what for row in outcomes.rows() if row.faults and row not in told]
    assert silent == []


def test_every_kind_of_torture_has_a_row() -> None:
    told = {kind for row in outcomes.rows() for kind in row.kinds}
    assert told == {*changes.BEFORE, *kinds.DURING}
