"""The command line ``model-garden``: train on this machine, or submit and follow TrainingJobs on a cluster.

``app`` declares the commands and imports nothing heavy. Each command imports what it needs when it is called.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of ``model-garden``."""
    from model_garden.cli.app import run_app

    run_app()
