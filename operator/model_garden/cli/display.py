"""Live progress on stderr: a bar and two lines in a terminal, plain lines elsewhere.

Local runs and ``watch`` pass the same plain values, so that both look the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from model_garden.cli.output import console
from model_garden.services import format

PLAIN_SECONDS = 10.0
"""Without a terminal, a step is printed when the percentage changed or when this many seconds have passed."""
CURVE_WIDTH = 24
TRAINING = ("Training", "Evaluating", "Running")
"""Stages that show the bar alone. In other stages, and after the last step, the detail is shown too."""


class Display:
    """Shows the current stage and, while training, the current step. Use as a context manager."""

    def __init__(self, stage: str) -> None:
        self._console = console(stderr=True)
        self._terminal = self._console.is_terminal
        self._spinner = Spinner("dots")
        self._stage = stage
        self._detail = ""
        self._progress: Mapping[str, Any] = {}
        self._losses: list[float] = []
        self._printed = (-1, -1, 0.0)  # step, percent, time
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        if self._terminal:
            self._live.start()
        else:
            self.line(self._stage)
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._live.stop()

    def stage(self, name: str, detail: str = "") -> None:
        """Enter a stage; ``detail`` describes it, or says why the job waits."""
        if (name, detail) == (self._stage, self._detail):
            return
        self._stage, self._detail = name, detail
        if not self._terminal:
            self.line(f"{name}: {detail}" if detail else name)

    def progress(self, progress: Mapping[str, Any], losses: list[float] | None = None) -> None:
        """Show the latest figures, in camelCase as in ``status.progress``.

        Args:
            progress: the figures.
            losses: all losses so far; None adds the loss of ``progress`` to the losses shown before.
        """
        self._progress = progress
        if losses is not None:
            self._losses = losses
        elif progress.get("loss") is not None:
            self._losses.append(progress["loss"])
        if not self._terminal and self._worth_a_line(progress):
            self.line(format.step_line(progress))

    def line(self, text: str) -> None:
        """Print a line above the bar, without markup."""
        self._console.print(Text(text), soft_wrap=True)

    def _worth_a_line(self, progress: Mapping[str, Any]) -> bool:
        step, total = progress["step"], progress.get("totalSteps") or 0
        percent = format.percent(progress)
        last_step, last_percent, last_time = self._printed
        now = time.monotonic()
        if step == last_step or (percent == last_percent and now - last_time < PLAIN_SECONDS and step != total):
            return False
        self._printed = (step, percent, now)
        return True

    def _render(self) -> RenderableType:
        if not self._progress.get("totalSteps"):
            self._spinner.update(text=Text.assemble((self._stage, "bold"), "  ", (self._detail, "dim")))
            return self._spinner
        lines: list[RenderableType] = [self._bar(), self._figures()]
        idle = self._stage not in TRAINING or self._progress["step"] == self._progress["totalSteps"]
        if self._detail and idle:
            lines.append(Text(self._detail, "dim"))
        return Group(*lines)

    def _bar(self) -> RenderableType:
        step, total = self._progress["step"], self._progress["totalSteps"]
        left = format.seconds_left(self._progress)
        line = Table.grid(padding=(0, 2), expand=True)
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True, justify="right")
        line.add_row(
            Text(self._stage, "bold"),
            ProgressBar(total=total, completed=step, complete_style="cyan", finished_style="green"),
            Text.assemble(
                f"{step}/{total}",
                (f"  {format.percent(self._progress)}%", "cyan"),
                (f"  {format.duration(left)} left" if left and left >= 1 and step < total else "", "dim"),
            ),
        )
        return line

    def _figures(self) -> RenderableType:
        loss = self._progress.get("loss")
        curve = format.sparkline(self._losses, CURVE_WIDTH)
        return Text.assemble(
            (f"loss {format.loss(loss)}  " if loss is not None else "", "bold"),
            (f"{curve}  " if curve else "", "cyan"),
            ("  ".join(format.details(self._progress)), "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )
