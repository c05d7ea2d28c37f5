"""The command line of a process that `devcluster up` starts for a node."""

import argparse
import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster, load


def run(program: str, work: Callable[[Cluster, int], Coroutine[Any, Any, None]]) -> None:
    """Reads `FOLDER --gpus N`, and works for the cluster in that folder until it is stopped."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--gpus", type=int, default=1)
    options = parser.parse_args()
    cluster = load(options.directory)
    if cluster is None:
        parser.error(f"no cluster in {options.directory}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(work(cluster, options.gpus))
