# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demonstration claims: each claim is a function that looks at the evidence and raises Refuted.

The evidence never passes through the product's own data path: the truth is what `cp` took from each
disk file while all VMs stood still (the cut hook), images are compared by `qemu-img compare`, records
are read by the lab's own verifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.site import RESTORED, STORE, Site
from lab import records, truth
from lab.topology import CHAIN, DiskSpec, VmSpec
from lab.vm import Newest

MAX_SENT_PER_DIRTY = 1.05
SCRATCH = "/var/lib/livebackup/scratch"


class Refuted(Exception):
    """A claim of the demonstration does not hold; the message names the point, the disk and what was seen."""


@dataclass(frozen=True)
class Proof:
    """One claim that held: what was claimed, and the figures it held with."""

    claim: str
    detail: str


@dataclass(frozen=True)
class DiskAtPoint:
    """One disk of one point: where its layer, its restored image and its truth lie."""

    point: str
    vm: str
    host: str
    disk: str
    layer: str

    @property
    def restored(self) -> str:
        return f"{RESTORED}/{self.point}/{self.vm}/{self.disk}.qcow2"

    @property
    def name(self) -> str:
        return f"{self.vm}/{self.disk} at {self.point}"


def disks_of(point: dict[str, Any]) -> Iterator[DiskAtPoint]:
    """Every disk of a point in the API's shape."""
    for vm in point["vms"]:
        for disk in vm["disks"]:
            yield DiskAtPoint(
                point=point["id"],
                vm=vm["vm"],
                host=vm["host"],
                disk=disk["disk"],
                layer=f"{STORE}/{disk['layer']}",
            )


def increments_hold_only_dirty_clusters(points: list[dict[str, Any]]) -> Proof:
    """Bytes that crossed the network per byte dirty at the bitmaps' granularity, for each increment."""
    ratios = []
    for point in points[1:]:
        disks = [disk for vm in point["vms"] for disk in vm["disks"]]
        full = [disk["disk"] for disk in disks if disk["level"] != "incremental"]
        if full:
            raise Refuted(f"point {point['id']} should be incremental, but {', '.join(full)} is not")
        sent, dirty = (sum(disk[key] for disk in disks) for key in ("sent_bytes", "dirty_bytes"))
        if not dirty or sent / dirty > MAX_SENT_PER_DIRTY:
            raise Refuted(f"point {point['id']}: {sent} bytes received for {dirty} bytes dirty")
        ratios.append(f"{sent}/{dirty} = {sent / dirty:.3f}")
    return Proof("an increment holds only the dirty clusters", f"received/dirty: {', '.join(ratios)}")


def restored_equal_truth(site: Site, points: list[dict[str, Any]]) -> Proof:
    """Each restored image against the copy of the disk file taken while the VM stood still."""
    compared = 0
    for disk in (disk for point in points for disk in disks_of(point)):
        host = site.lab.host(disk.host)
        true_copy = truth.copy_path(disk.point, disk.vm, disk.disk.removeprefix("vd-"))
        comparison = truth.compare(host.path(disk.restored), host.path(true_copy))
        if comparison.verdict is not truth.Verdict.EQUAL:
            raise Refuted(
                f"{disk.name}: restored image and frozen state {comparison.verdict.value}: {comparison.said}"
            )
        compared += 1
    return Proof(
        "every restored image is bit-identical to the frozen state",
        f"{compared} images against copies of the disk files taken by cp in the stop window",
    )


def order_holds(site: Site, points: list[dict[str, Any]]) -> Proof:
    """Dependent writes: disk b never ahead of disk a, no VM ahead of the one before it."""
    seen = []
    for point in points:
        held = records_at(site, point)
        violations = records.violations(held)
        if violations:
            raise Refuted(f"point {point['id']}: {'; '.join(violations)}")
        seen.append("/".join(str(held[vm].b.prefix) for vm in CHAIN))
    return Proof("order holds across disks and VMs in every point", f"records db/app/web: {', '.join(seen)}")


def records_at(site: Site, point: dict[str, Any]) -> dict[str, records.VmRecords]:
    """The records that each VM's restored disks hold at one point."""
    held = {}
    for vm in point["vms"]:
        folder = site.lab.host(vm["host"]).path(f"{RESTORED}/{point['id']}/{vm['vm']}")
        images = {letter: folder / f"vd-{letter}.qcow2" for letter in "ab"}
        held[vm["vm"]] = records.read(vm["vm"], images)
    return held


def layers_are_clean(site: Site, points: list[dict[str, Any]]) -> Proof:
    """`qemu-img check` on every layer, by the tool of the receiver host."""
    host = site.lab.host("rcv")
    layers = [disk for point in points for disk in disks_of(point)]
    for disk in layers:
        done = host.run(["qemu-img", "check", "-q", disk.layer], check=False)
        if done.returncode:
            raise Refuted(f"{disk.name}: qemu-img check says: {done.stdout}{done.stderr}")
    return Proof("qemu-img check is clean on every layer", f"{len(layers)} layers")


def qemu_img_alone_restores(site: Site, points: list[dict[str, Any]]) -> Proof:
    """`qemu-img convert` on the store's files, without our code, gives what the product's restore gave."""
    receiver, alone = site.lab.host("rcv"), "/var/tmp/alone.raw"
    restored = 0
    for disk in (disk for point in points for disk in disks_of(point)):
        receiver.run(["qemu-img", "convert", "-O", "raw", disk.layer, alone])
        ours = site.lab.host(disk.host).path(disk.restored)
        comparison = truth.compare(receiver.path(alone), ours)
        if comparison.verdict is not truth.Verdict.EQUAL:
            raise Refuted(f"{disk.name}: converted from {disk.layer} and restored by us: {comparison.said}")
        restored += 1
    return Proof("qemu-img convert alone restores any point", f"{restored} images, identical to ours")


def newest_point_boots(site: Site, point: dict[str, Any]) -> Proof:
    """Boot each VM from its restored disks; its guest has to report the record that the images hold."""
    told = []
    for vm, pair in records_at(site, point).items():
        newest = _booted(site, point["id"], vm)
        if (newest.a, newest.b) != (pair.a.prefix, pair.b.prefix):
            raise Refuted(f"VM {vm} booted from {point['id']} reports {newest}, its images hold {pair}")
        told.append(f"{vm}={newest.b}")
    return Proof("the newest point boots and its guests report their records", " ".join(told))


def _booted(site: Site, point: str, vm: str) -> Newest:
    """What the guest of `vm` reports, booted on overlays, so that the restored images stay as they are."""
    host = site.lab.vm(vm).host
    overlays = f"{RESTORED}/{point}/{vm}/boot"
    host.run(["mkdir", "-p", overlays])
    for disk in ("vd-a", "vd-b"):
        host.run(
            [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                "qcow2",
                "-b",
                f"../{disk}.qcow2",
                f"{overlays}/{disk}.qcow2",
            ]
        )
    disks = tuple(DiskSpec(letter, f"{overlays}/vd-{letter}.qcow2") for letter in "ab")
    rehearsal = VmSpec(f"{vm}-restored", host.name, disks, mode="idle", identity=vm, user="root")
    with site.lab.vm(rehearsal).up() as machine:
        return machine.newest()


def nothing_left(site: Site) -> Proof:
    """No filter, job, scratch, secret or stray bitmap on a VM; no partial layer or daemon at the receiver."""
    left = [*_left_on_vms(site), *_left_at_receiver(site)]
    if left:
        raise Refuted(f"left behind: {'; '.join(left)}")
    return Proof(
        "nothing is left behind", "no filter, job, scratch, secret, stray bitmap, partial layer or daemon"
    )


def _left_on_vms(site: Site) -> Iterator[str]:
    committed = {point["id"] for point in site.points()}
    for host in map(site.lab.host, ("hv1", "hv2")):
        scratch = host.run(["find", SCRATCH, "-type", "f"]).stdout.split()
        yield from (f"scratch image {path} on {host.name}" for path in scratch)
    for vm in site.vms:
        nodes = vm.qmp("query-named-block-nodes", flat=True)
        yield from (
            f"node {node['node-name']} in {vm.name}" for node in nodes if node["node-name"].startswith("lb-")
        )
        objects = vm.qmp("qom-list", path="/objects")
        yield from (
            f"object {entry['name']} in {vm.name}" for entry in objects if entry["name"].startswith("lb-")
        )
        yield from (
            f"job {job['id']} in {vm.name}" for job in vm.qmp("query-jobs") if job["id"].startswith("lb-")
        )
        yield from (f"fdset in {vm.name}" for _fdset in vm.qmp("query-fdsets"))
        yield from (f"bitmap {name} on {vm.name}" for node in nodes for name in _stray(node, committed))


def _stray(node: dict[str, Any], committed: set[str]) -> list[str]:
    names = [
        bitmap["name"] for bitmap in node.get("dirty-bitmaps", []) if bitmap["name"].startswith("livebackup:")
    ]
    checkpoints = [name for name in names if not name.startswith(("livebackup:tracked", "livebackup:end:"))]
    good = [name for name in checkpoints if name.removeprefix("livebackup:") in committed]
    ends = {f"livebackup:end:{name.removeprefix('livebackup:')}" for name in good[:1]}
    left = [name for name in names if name.startswith("livebackup:end:") and name not in ends]
    return [name for name in checkpoints if name not in good] + good[1:] + left


def _left_at_receiver(site: Site) -> Iterator[str]:
    host = site.lab.host("rcv")
    committed = {point["id"] for point in site.points()}
    files = host.run(["find", f"{STORE}/vms", "-type", "f"]).stdout.split()
    due = {f"{point}{suffix}" for point in committed for suffix in (".qcow2", ".json", ".digests")}
    yield from (f"file {path} of no point" for path in files if Path(path).name not in due)
    daemons = host.run(["pgrep", "-x", "qemu-storage-d"], check=False).stdout.split()
    yield from (f"storage daemon {pid}" for pid in daemons)
