"""Prometheus and promtool, built from the module in ``go/``.

``go build`` makes each on first use, in a few minutes on two cores: without the pages, and without the discovery of
targets in clouds, which the tests do not use.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.controller.harness import free_port
from tests.go_programs import built

MODULE = Path(__file__).parent / "go"


def program(name: str) -> Path:
    """``prometheus`` or ``promtool``, built on first use."""
    package = f"github.com/prometheus/prometheus/cmd/{name}"
    return built(name, MODULE, "monitoring", ("go.mod", "go.sum"), "-tags=remove_all_sd", package)


def promtool(*arguments: str, content: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("promtool"), *arguments], input=content, capture_output=True, text=True, check=False)


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """``data`` of an answer of its API; a query that is wrong raises HTTPError."""
        with urlopen(f"{self._url}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Any]:
        """What an expression is now, one item a series."""
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def ready(self) -> bool:
        try:
            return bool(urlopen(f"{self._url}/-/ready", timeout=5).status == 200)
        except OSError:  # also a connection that is closed before it answers
            return False


@contextmanager
def prometheus(folder: Path, targets: Sequence[int], rules: Path) -> Iterator[Prometheus]:
    """A Prometheus that reads the metrics at ``targets``, ports of this machine, as the chart's PodMonitor has it."""
    port = free_port()
    scrape = {
        "job_name": "model-garden-operator",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{target}" for target in targets]}],
    }
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = {"global": every, "scrape_configs": [scrape], "rule_files": [str(rules)]}
    (folder / "prometheus.json").write_text(json.dumps(config))
    command = [
        str(program("prometheus")),
        f"--config.file={folder}/prometheus.json",
        f"--storage.tsdb.path={folder}/data",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    server = Prometheus(port)
    try:
        deadline = time.monotonic() + 60
        while not server.ready():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "prometheus.log").read_text()
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    program("prometheus")
