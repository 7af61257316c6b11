# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX sees of a backup: the job's status, its progress, and the data it hands to later jobs."""

from __future__ import annotations

import pytest
from awx import Controller, Job


@pytest.fixture(scope="module")
def job(controller: Controller) -> Job:
    """A backup that went well."""
    job = controller.run("backup")
    assert job.status == "successful", job.output
    return job


def test_no_host_failed(job: Job) -> None:
    [stats] = job.events("playbook_on_stats")
    assert not stats["event_data"]["failures"]
    assert not stats["event_data"]["dark"]
    assert list(stats["event_data"]["changed"]) == ["hv1"]


def test_result_is_handed_to_later_jobs(job: Job) -> None:
    [stats] = job.events("playbook_on_stats")
    result = stats["event_data"]["artifact_data"]["livebackup"]
    assert result["group"] == "awx"
    assert result["point"] == result["session"]
    assert result["complete"] is True
    assert result["reason"] is None
    assert result["vms"] == ["shop"]
    assert result["pause_ms"] > 0
    assert [(disk["disk"], disk["level"], disk["state"]) for disk in result["disks"]] == [
        ("vd-a", "full", "sealed")
    ]
    assert result["sent_bytes"] == sum(disk["sent_bytes"] for disk in result["disks"])


def test_summary_names_the_point(job: Job) -> None:
    [stats] = job.events("playbook_on_stats")
    point = stats["event_data"]["artifact_data"]["livebackup"]["point"]
    assert f"Group awx: restore point {point} of shop" in job.output


def test_token_is_in_no_artifact(job: Job, controller: Controller) -> None:
    token = controller.lab.host("rcv").run(["cat", "/etc/livebackup/tokens/backup"]).stdout.strip()
    artifacts = [path for path in controller.directory.glob("*/artifacts/**/*") if path.is_file()]
    assert job.artifacts / "stdout" in artifacts
    assert [path for path in artifacts if token in path.read_text()] == []


def test_failure_says_in_one_sentence_what_is_wrong(controller: Controller) -> None:
    job = controller.run("backup", livebackup_vms=["ghost"])
    assert job.status == "failed"
    [failure] = job.events("runner_on_failed")
    assert "ghost" in failure["event_data"]["res"]["msg"]
    [stats] = job.events("playbook_on_stats")
    assert "livebackup" not in stats["event_data"]["artifact_data"]
