# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab of one hypervisor with one VM, and one receiver, deployed as AWX would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from awx import Controller

from lab.lab import Lab
from lab.topology import DiskSpec, VmSpec

VM = VmSpec("shop", "hv1", (DiskSpec("a", "/var/lib/livebackup-lab/shop/a.qcow2"),), guest=False)


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A deployed site with one VM."""
    with Lab.up("runner", hosts=["hv1", "rcv"], vms=False) as lab, lab.vm(VM).up():
        controller = Controller(lab, tmp_path_factory.mktemp("awx"))
        deployed = controller.run("deploy")
        assert deployed.status == "successful", deployed.output
        yield controller
