"""`make audit` against a database with one vulnerability: found, accepted for a time, and no longer accepted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.audit import ACCEPTED, ROOT, audit_go, expired, read

FOUND = "PYSEC-2026-1"
FIXED = "9999.0"


class Database(BaseHTTPRequestHandler):
    """The API of osv.dev that uv uses; it knows one vulnerability, of jinja2."""

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        known = {"vulns": [{"id": FOUND, "modified": "2026-01-01T00:00:00Z"}]}
        self.answer({"results": [known if query["package"]["name"] == "jinja2" else {} for query in queries]})

    def do_GET(self) -> None:
        events = [{"introduced": "0"}, {"fixed": FIXED}]
        package = {"ecosystem": "PyPI", "name": "jinja2"}
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        self.answer({"id": FOUND, "modified": "2026-01-01T00:00:00Z", "summary": "escape", "affected": affected})

    def answer(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def database() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def audit(database: str, folder: Path, accepted: str) -> subprocess.CompletedProcess[str]:
    path = folder / "audit.toml"
    path.write_text(accepted)
    uv = max(ROOT.glob(".uv/*/bin/uv"))
    command = [sys.executable, "-m", "tools.audit", "--uv", str(uv), "--only", "python", "--accepted", str(path)]
    command += ["--python-database", database]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def accepting(until: date) -> str:
    return f'[[accepted]]\nid = "{FOUND}"\nreason = "it is not called"\nuntil = {until}\n'


def test_a_finding_fails_the_audit_until_it_is_accepted_for_a_time(database: str, tmp_path: Path) -> None:
    done = audit(database, tmp_path, "")
    assert done.returncode == 1
    assert FOUND in done.stdout + done.stderr and FIXED in done.stdout + done.stderr
    today = date.today()
    done = audit(database, tmp_path, accepting(today + timedelta(days=2)))
    assert done.returncode == 0, done.stdout + done.stderr
    done = audit(database, tmp_path, accepting(today - timedelta(days=2)))
    assert done.returncode == 1
    assert f"{FOUND}: was accepted until" in done.stderr and "it is not called" in done.stderr


def test_a_finding_in_a_go_module_is_named_with_its_fix(tmp_path: Path) -> None:
    package = "github.com/rhysd/actionlint"
    events = [{"introduced": "0"}, {"fixed": "9.0.0"}]
    affected = {"package": {"name": package, "ecosystem": "Go"}, "ranges": [{"type": "SEMVER", "events": events}]}
    known: dict[str, object] = {"id": "GO-2026-1", "modified": "2026-01-01T00:00:00Z"}
    files: dict[str, object] = {
        "index/db": {"modified": "2026-01-01T00:00:00Z"},
        "index/modules": [{"path": package, "vulns": [known | {"fixed": "9.0.0"}]}],
        "ID/GO-2026-1": known | {"affected": [affected]},
    }
    for name, content in files.items():
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    module = Path(__file__).parent / "actionlint"
    (found,) = audit_go(module, [], f"file://{tmp_path}")
    assert found.startswith(f"tests/tools/actionlint: {package} v1.")
    assert found.endswith("has GO-2026-1; update it to v9.0.0")
    assert audit_go(module, ["GO-2026-1"], f"file://{tmp_path}") == []


def test_each_accepted_finding_has_a_reason_and_a_day() -> None:
    tomllib.loads(ACCEPTED.read_text())
    assert all(len(one.reason) > 20 for one in read(ACCEPTED.read_text()))
    assert expired(read(accepting(date(2026, 1, 1))), date(2026, 1, 1)) == []
