"""Asks the public databases for known vulnerabilities of what uv.lock and each go.mod pin.

    make audit

It fails for each finding that tools/audit.toml does not accept, and for each that this file accepted for long enough.
uv asks osv.dev, and govulncheck vuln.go.dev.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from devcluster.gobuild import find_go

ROOT = Path(__file__).parents[1]
ACCEPTED = ROOT / "tools" / "audit.toml"
GOVULNCHECK = "golang.org/x/vuln/cmd/govulncheck@v1.9.0"


@dataclass(frozen=True)
class Accepted:
    """A finding that may stay until a day."""

    id: str
    reason: str
    until: date


def main(arguments: list[str]) -> int:
    """0 if nothing was found that is not accepted, else 1."""
    parser = argparse.ArgumentParser(prog="make audit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--uv", required=True, help="the program uv")
    parser.add_argument("--accepted", type=Path, default=ACCEPTED, help="the findings that are accepted")
    parser.add_argument("--python-database", help="the URL of another server with the API of osv.dev")
    parser.add_argument("--go-database", default="https://vuln.go.dev", help="another database of Go")
    parser.add_argument("--only", choices=["python", "go"], help="one of the two")
    options = parser.parse_args(arguments)
    accepted = read(options.accepted.read_text())
    problems = expired(accepted, datetime.now(UTC).date())
    ignored = [one.id for one in accepted]
    if options.only != "go" and not audit_python(options.uv, ignored, options.python_database):
        problems.append("uv.lock: uv names above what it found, or why it could not ask")
    if options.only != "python":
        problems += [problem for module in go_modules() for problem in audit_go(module, ignored, options.go_database)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def read(text: str) -> list[Accepted]:
    """The findings that a file accepts."""
    return [Accepted(**one) for one in tomllib.loads(text).get("accepted", [])]


def expired(accepted: list[Accepted], today: date) -> list[str]:
    """One line for each finding whose day has passed."""
    return [
        f"{one.id}: was accepted until {one.until} ({one.reason}); update the package, or give a new reason and day"
        for one in accepted
        if one.until < today
    ]


def audit_python(uv: str, ignored: list[str], database: str | None) -> bool:
    """Whether uv found nothing in uv.lock, for all extras and development."""
    flags = [flag for one in ignored for flag in ("--ignore", one)] + (["--service-url", database] if database else [])
    command = [uv, "audit", "--frozen", "--preview-features", "audit", *flags]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def go_modules() -> list[Path]:
    """The folders of the Go modules, all of which build programs for the demo and the tests alone."""
    listed = ["git", "ls-files", "*go.mod"]
    found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [(ROOT / name).parent for name in found]


def audit_go(module: Path, ignored: list[str], database: str) -> list[str]:
    """One line for each vulnerability of the packages that a module builds, in the versions that it pins."""
    packages = "." if any(module.glob("*.go")) else "tool"
    command = [str(find_go()), "run", GOVULNCHECK, "-C", str(module), "-db", database, "-scan", "package"]
    command += ["-format", "json", packages]
    environment = os.environ | {"GOFLAGS": "-mod=readonly"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    place = module.relative_to(ROOT)
    if done.returncode:
        return [f"{place}: {done.stderr.strip()}"]
    lines = {_line(finding) for finding in _findings(done.stdout) if finding["osv"] not in ignored}
    return [f"{place}: {line}" for line in sorted(lines)]


def _line(finding: dict[str, Any]) -> str:
    found, fixed = finding["trace"][0], finding.get("fixed_version")
    what = f"{found['module']} {found.get('version', '')} has {finding['osv']}"
    return f"{what}; {f'update it to {fixed}' if fixed else 'no version fixes it yet'}"


def _findings(text: str) -> Iterator[dict[str, Any]]:
    """The findings about packages among the JSON messages of govulncheck, which follow each other."""
    while text := text.strip():
        message, end = json.JSONDecoder().raw_decode(text)
        if "package" in message.get("finding", {}).get("trace", [{}])[0]:
            yield message["finding"]
        text = text[end:]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
