"""One TrainingJob in the words of each front door: YAML, curl, command line and Python. Pure functions."""

from __future__ import annotations

import json
import pprint
import shlex
import textwrap
from typing import Any

from model_garden.contract.fields import spec_fields
from model_garden.contract.pod import GPU_RESOURCE
from model_garden.contract.rule import get
from model_garden.services.flags import BY_COMMAND, flag
from model_garden.services.manifest import Job
from model_garden.services.yaml_text import yaml_text

ROUTE = "/api/v1/training/jobs"


def as_yaml(job: Job) -> str:
    """A file for ``kubectl apply`` and ``model-garden submit``."""
    return yaml_text(job.resource())


def as_curl(job: Job, address: str) -> str:
    """A command that posts the job to the REST API at ``address``."""
    body = json.dumps(request_of(job), indent=2, ensure_ascii=False)
    return "\n".join(
        [
            f"curl -X POST {shlex.quote(address + ROUTE)} \\",
            '  -H "Content-Type: application/json" \\',
            f"  -d {shlex.quote(textwrap.indent(body, '  ').strip())}",
        ]
    )


def as_command(job: Job) -> str:
    """A ``model-garden submit`` command."""
    words = ["--name", job.name]
    spec = job.spec.to_dict()
    if job.spec.vision:
        words.append("--vision")
    limits = get(spec, "resources") or {}
    if limits == {"limits": {GPU_RESOURCE: job.spec.gpus}}:
        words += ["--gpus", str(job.spec.gpus)]
    elif limits:
        words += ["--set", f"resources={json.dumps(limits)}"]
    for field in spec_fields():
        value = get(spec, field.dotted)
        if value is not None and field.path[0] not in BY_COMMAND:
            words += _words(flag(field), value)
    if template := get(spec, "podTemplate"):
        words += ["--set", f"podTemplate={json.dumps(template, ensure_ascii=False)}"]
    lines = ["model-garden submit"]
    for word in words:
        if word.startswith("--"):
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n  ".join(lines)


def as_python(job: Job, address: str) -> str:
    """A script that posts the job to the REST API at ``address``."""
    body = pprint.pformat(request_of(job), sort_dicts=False, width=100)
    return (
        "import requests\n\n"
        "answer = requests.post(\n"
        f"    {address + ROUTE!r},\n"
        f"    json={textwrap.indent(body, '    ').strip()},\n"
        "    timeout=30,\n"
        ")\n"
        "answer.raise_for_status()\n"
        'print(answer.json()["id"], answer.json()["phase"])\n'
    )


def request_of(job: Job) -> dict[str, Any]:
    """The body that creates the job."""
    labels = job.metadata.get("labels")
    return {"name": job.name} | ({"labels": labels} if labels else {}) | job.spec.to_snake_dict()


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name if value else f"--no-{name[2:]}"]
    values = value if isinstance(value, list) else [value]
    return [word for item in values for word in (name, str(item))]
