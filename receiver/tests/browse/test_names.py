# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebackup_receiver.browse.choice import split
from livebackup_receiver.browse.names import absolute, meant, shown
from livebackup_receiver.errors import GuestPathInvalid


@given(st.binary().filter(lambda name: b"\0" not in name))
def test_every_name_is_one_harmless_line_that_leads_back_to_it(name: bytes) -> None:
    text = shown(name)
    assert text.isprintable()
    assert meant(text) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Grüße".encode(), "Grüße"),
        (b"two\nlines", r"two\x0alines"),
        (b"\x1b[2J", r"\x1b[2J"),
        (b"\xff", r"\xff"),
        ("\u202eexe".encode(), r"\xe2\x80\xaeexe"),
        (b"C:\\x41", r"C:\\x41"),
    ],
)
def test_what_may_deceive_is_escaped_and_nothing_else(name: bytes, text: str) -> None:
    assert (shown(name), meant(text)) == (text, name)


def test_bytes_of_a_command_line_are_taken_as_they_are() -> None:
    assert meant(b"odd \xff".decode("utf-8", "surrogateescape")) == b"odd \xff"


@pytest.mark.parametrize("text", ["a\\", "\\q", "\\x4", "\\\\\\", r"\x4\\1", r"a\x00b"])
def test_half_an_escape_and_a_nul_are_refused(text: str) -> None:
    with pytest.raises(GuestPathInvalid):
        meant(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [("", b"/"), ("etc//hosts", b"/etc/hosts"), ("/./a/.", b"/a"), (r"/x\x2fy", b"/x/y")],
)
def test_paths_are_absolute_and_plain(text: str, path: bytes) -> None:
    assert absolute(text) == path


@pytest.mark.parametrize("text", ["..", "/a/../../b", r"/\x2e\x2e/b"])
def test_no_path_goes_up(text: str) -> None:
    with pytest.raises(GuestPathInvalid, match=r"without \.\."):
        absolute(text)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/etc/hosts", (None, "/etc/hosts")),
        ("sda1", ("sda1", "/")),
        ("sda1:", ("sda1", "/")),
        ("vg0/root:/etc:/x", ("vg0/root", "/etc:/x")),
        ("btrfsvol:sda2/home:/a", ("btrfsvol:sda2/home", "/a")),
    ],
)
def test_a_path_may_begin_with_its_file_system(path: str, place: tuple[str | None, str]) -> None:
    assert split(path) == place
