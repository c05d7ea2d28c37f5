"""``python -m model_garden.controller``: the operator, until SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from model_garden.controller import log


def main() -> None:
    """Run the operator. SIGTERM ends it with exit code 0 also while its packages load, which takes a second."""
    signal.signal(signal.SIGTERM, _stop)  # until kopf installs its own handler
    from model_garden.controller.process import run

    run()


def _stop(*_: object) -> NoReturn:
    line = log.line("stopped by SIGTERM before the operator started", os.environ.get("MODEL_GARDEN_LOG_FORMAT"))
    os.write(sys.stdout.fileno(), f"{line}\n".encode())  # print may not be called again within itself
    os._exit(0)


if __name__ == "__main__":
    main()
