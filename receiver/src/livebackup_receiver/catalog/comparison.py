# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where store and catalog do not say the same, each in one sentence; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum

from livebackup_receiver.catalog.contents import Contents, LayerRecord
from livebackup_receiver.model import Model, rfc3339
from livebackup_receiver.retention.declared import DeclaredPolicy
from livebackup_receiver.store.inventory import Inventory, LayerFile
from livebackup_receiver.store.manifest import Manifest
from livebackup_receiver.store.marks import Mark
from livebackup_receiver.store.paths import LAYER_SUFFIX
from livebackup_receiver.store.survey import Incomplete, Survey


class Kind(StrEnum):
    POINT_MISSING_IN_CATALOG = "point-missing-in-catalog"
    POINT_MISSING_IN_STORE = "point-missing-in-store"
    POINT_INCOMPLETE = "point-incomplete"
    LAYER_MISSING_IN_CATALOG = "layer-missing-in-catalog"
    LAYER_MISSING_IN_STORE = "layer-missing-in-store"
    LAYER_DIFFERS = "layer-differs"
    DIGESTS_MISSING = "digests-missing"
    MARK_DIFFERS = "mark-differs"
    POLICY_DIFFERS = "policy-differs"
    MERGE_UNFINISHED = "merge-unfinished"
    UNKNOWN_FILE = "unknown-file"


class Difference(Model):
    """One of them; ``subject`` is a point, or a file relative to the store."""

    kind: Kind
    subject: str
    sentence: str


def compare(
    inventory: Inventory, found: Survey, policies: Sequence[DeclaredPolicy], contents: Contents
) -> list[Difference]:
    """Every difference; nothing is said of sessions that are open.

    :param found: what ``store.survey`` makes of the inventory
    :param policies: those in the store
    """
    return [
        *_points(found, contents),
        *_layers(inventory, found, contents),
        *_marks(inventory, contents),
        *_policies(policies, contents),
        *_leftovers(inventory, contents),
    ]


def _points(found: Survey, contents: Contents) -> Iterator[Difference]:
    for point in found.points:
        if point.id not in contents.groups:
            sentence = f"point {point.id} of group {point.group} is in the store and missing in the catalog"
            yield Difference(kind=Kind.POINT_MISSING_IN_CATALOG, subject=point.id, sentence=sentence)
    for each in found.incomplete:
        if each.point not in contents.open_sessions:
            yield _incomplete(each)
    seen = {each.id for each in (*found.points, *found.ghosts)} | {each.point for each in found.incomplete}
    for gone in sorted(set(contents.groups) - seen):
        group = contents.groups[gone]
        sentence = f"point {gone} of group {group} is in the catalog, and the store has nothing of it"
        yield Difference(kind=Kind.POINT_MISSING_IN_STORE, subject=gone, sentence=sentence)


def _incomplete(each: Incomplete) -> Difference:
    sentence = (
        f"point {each.point} of group {each.group} is not whole in the store: {'; '.join(each.problems)}"
    )
    return Difference(kind=Kind.POINT_INCOMPLETE, subject=each.point, sentence=sentence)


def _layers(inventory: Inventory, found: Survey, contents: Contents) -> Iterator[Difference]:
    files = {each.key: each for each in inventory.layers if each.point not in contents.open_sessions}
    for key, file in sorted(files.items()):
        if file.size is not None:
            yield from (_differs(file, words) for words in _faults(file))
            if not file.has_table:
                sentence = f"layer {file.name} has no digest table"
                yield Difference(kind=Kind.DIGESTS_MISSING, subject=file.name, sentence=sentence)
        if file.manifest and key in contents.layers:
            yield from (_differs(file, words) for words in _deviations(file.manifest, contents.layers[key]))
    for vm, disk, point in sorted(contents.layers):
        known = files.get((vm, disk, point))
        if known is None or known.size is None:
            name = f"vms/{vm}/{disk}/{point}{LAYER_SUFFIX}"
            sentence = f"layer {name} is in the catalog and missing in the store"
            yield Difference(kind=Kind.LAYER_MISSING_IN_STORE, subject=name, sentence=sentence)
    expected = {
        (vm.vm, disk.disk, point.id)
        for point in (*found.points, *found.ghosts)
        for vm in point.vms
        for disk in vm.disks
        if point.id in contents.groups
    }
    for key in sorted(expected - set(contents.layers)):
        sentence = f"layer {files[key].name} is in the store and missing in the catalog"
        yield Difference(kind=Kind.LAYER_MISSING_IN_CATALOG, subject=files[key].name, sentence=sentence)


def _differs(file: LayerFile, words: str) -> Difference:
    return Difference(kind=Kind.LAYER_DIFFERS, subject=file.name, sentence=f"layer {file.name}: {words}")


def _faults(file: LayerFile) -> Iterator[str]:
    """What is wrong with a layer, whatever the catalog says."""
    if file.problem:
        yield file.problem
    if file.manifest is None:
        return
    if file.size != file.manifest.layer_size:
        yield f"it has {file.size:,} bytes, and its manifest says {file.manifest.layer_size:,}"
    parent = f"{file.manifest.parent}{LAYER_SUFFIX}" if file.manifest.parent else None
    if not file.problem and file.backing != parent:
        yield f"it lies on {file.backing}, and its manifest says {parent}"


def _deviations(manifest: Manifest, record: LayerRecord) -> Iterator[str]:
    """Where manifest and catalog differ."""
    for name, words in (("parent", "parent"), ("virtual_size", "virtual size"), ("root", "digest")):
        in_store, in_catalog = getattr(manifest, name), getattr(record, name)
        if in_store != in_catalog:
            yield f"its {words} is {in_store} in the store, and {in_catalog} in the catalog"


def _marks(inventory: Inventory, contents: Contents) -> Iterator[Difference]:
    there = {each.point for each in inventory.layers}
    in_store = {mark.point: mark for mark in inventory.marks}
    for point in sorted(set(in_store) | set(contents.marks)):
        mark = in_store.get(point, Mark(point=point))
        if point not in there and point not in contents.marks:
            sentence = f"there are decisions about point {point} in the store, and nothing else of it"
            yield Difference(kind=Kind.MARK_DIFFERS, subject=point, sentence=sentence)
        elif point in contents.marks:
            for words in _decisions(mark, contents.marks[point]):
                yield Difference(kind=Kind.MARK_DIFFERS, subject=point, sentence=f"point {point}: {words}")


def _decisions(in_store: Mark, in_catalog: Mark) -> Iterator[str]:
    for name, words in (
        ("dropped_at", "dropped at"),
        ("pin_reason", "pinned for"),
        ("pin_until", "pinned until"),
        ("locked_until", "locked until"),
    ):
        # as words, because files have milliseconds
        ours, theirs = _said(getattr(in_store, name)), _said(getattr(in_catalog, name))
        if ours != theirs:
            yield f"{words} {ours} in the store, and {theirs} in the catalog"


def _said(value: str | datetime | None) -> str:
    if isinstance(value, datetime):
        return rfc3339(value)
    return "nothing" if value is None else value


def _policies(policies: Sequence[DeclaredPolicy], contents: Contents) -> Iterator[Difference]:
    ours = {each.scope: each.policy for each in policies}
    theirs = {each.scope: each.policy for each in contents.policies}
    for scope in sorted(set(ours) | set(theirs)):
        if ours.get(scope) != theirs.get(scope):
            lacking = "the catalog" if scope not in theirs else "the store" if scope not in ours else None
            what = f"is missing in {lacking}" if lacking else "is another in the store than in the catalog"
            sentence = f"the policy of {scope} {what}"
            yield Difference(kind=Kind.POLICY_DIFFERS, subject=scope, sentence=sentence)


def _leftovers(inventory: Inventory, contents: Contents) -> Iterator[Difference]:
    for name in inventory.merging:
        sentence = f"a merge into layer {name} is not finished"
        yield Difference(kind=Kind.MERGE_UNFINISHED, subject=name, sentence=sentence)
    for file in inventory.layers:
        if file.size is None and file.key not in contents.layers and file.point not in contents.open_sessions:
            sentence = f"of layer {file.name} only what lay beside it is left"
            yield Difference(kind=Kind.UNKNOWN_FILE, subject=file.name, sentence=sentence)
    for name in inventory.strays:
        sentence = f"{name} is of unknown origin"
        yield Difference(kind=Kind.UNKNOWN_FILE, subject=name, sentence=sentence)
