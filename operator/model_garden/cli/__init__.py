"""The command line, ``model-garden``: fine-tunes on this machine, and submits and follows TrainingJobs on a cluster.

``app`` names the commands and imports nothing heavy; each command imports what it needs when it is called.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of ``model-garden``."""
    from model_garden.cli.app import run_app

    run_app()
