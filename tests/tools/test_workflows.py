"""The GitHub workflows: actionlint finds nothing, no action can change unseen, and Dependabot knows every lock."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from devcluster.gobuild import find_go
from tools.audit import ROOT, go_modules

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
EACH = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
ACTION = re.compile(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+(;.*)?")


def load(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


def test_actionlint_finds_nothing() -> None:
    fixed = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    command = [str(find_go()), "tool", "actionlint", "-shellcheck=", "-pyflakes=", *map(str, WORKFLOWS)]
    module = Path(__file__).parent / "actionlint"
    done = subprocess.run(command, cwd=module, env=os.environ | fixed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@EACH
def test_each_action_is_pinned_by_its_commit(path: Path) -> None:
    used = re.findall(r"uses: (.+)", path.read_text())
    assert used
    assert [action for action in used if not ACTION.fullmatch(action)] == []


@EACH
def test_a_workflow_reads_only_and_a_job_has_what_it_needs_for_a_limited_time(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        checkouts = [step for step in job["steps"] if "actions/checkout" in step.get("uses", "")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts), name


def test_only_the_release_may_write_and_only_where_it_publishes() -> None:
    jobs = {(path.name, name): job for path in WORKFLOWS for name, job in load(path)["jobs"].items()}
    granted = {
        key: {right for right, level in job.get("permissions", {}).items() if level == "write"}
        for key, job in jobs.items()
    }
    signing = {"id-token"}
    assert {key: rights for key, rights in granted.items() if rights} == {
        ("release.yml", "images"): {"packages", "attestations", *signing},
        ("release.yml", "chart"): {"packages", *signing},
        ("release.yml", "wheel"): signing,
        ("release.yml", "files"): {"contents", *signing},
    }


def test_a_release_signs_digests_and_no_tag() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text()
    signed = re.findall(r"cosign sign --yes (.+)", text)
    assert len(signed) == 2
    assert all(reference.endswith('@$digest"') for reference in signed)


def test_dependabot_updates_every_go_module() -> None:
    (go,) = [one for one in load(ROOT / ".github/dependabot.yml")["updates"] if one["package-ecosystem"] == "gomod"]
    assert sorted(go["directories"]) == sorted(f"/{module.relative_to(ROOT)}" for module in go_modules())
