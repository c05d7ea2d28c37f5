"""`python -m devcluster.kubelet FOLDER --gpus N`: what `up --node=kubelet` starts beside the kubelet."""

import argparse
import asyncio
import logging
from pathlib import Path

from devcluster.cluster import load
from devcluster.kubelet.services import run_services


def main() -> None:
    """Serves the node of the cluster in a folder."""
    parser = argparse.ArgumentParser(prog="devcluster.kubelet")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--gpus", type=int, default=1)
    options = parser.parse_args()
    cluster = load(options.directory)
    if cluster is None:
        parser.error(f"no cluster in {options.directory}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(run_services(cluster, options.gpus))


if __name__ == "__main__":
    main()
