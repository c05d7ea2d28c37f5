"""Live progress for people, on stderr: a bar and two lines in a terminal, plain lines anywhere else.

Local runs and ``watch`` feed it the same plain values, so that both look the same.
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
"""Without a terminal a step is told when a whole percent was gained, or when this long nothing was told."""
CURVE_WIDTH = 24
TRAINING = ("Training", "Running")
"""Stages whose bar says it all; at any other, and when all steps are done, the detail says what is going on."""


class Display:
    """What is going on now: a stage, then steps. Use as a context manager."""

    def __init__(self, stage: str) -> None:
        self._console = console(stderr=True)
        self._terminal = self._console.is_terminal
        self._spinner = Spinner("dots")
        self._stage = stage
        self._detail = ""
        self._progress: Mapping[str, Any] = {}
        self._losses: list[float] = []
        self._told = (-1, -1, 0.0)
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
        """Enter a stage; ``detail`` says what it is about or why it waits."""
        if (name, detail) == (self._stage, self._detail):
            return
        self._stage, self._detail = name, detail
        if not self._terminal:
            self.line(f"{name}: {detail}" if detail else name)

    def progress(self, progress: Mapping[str, Any], losses: list[float] | None = None) -> None:
        """Show the latest figures, in camelCase as in ``status.progress``.

        Args:
            progress: the figures.
            losses: all losses so far; left out, this one's is added to those known.
        """
        self._progress = progress
        if losses is not None:
            self._losses = losses
        elif progress.get("loss") is not None:
            self._losses.append(progress["loss"])
        if not self._terminal and self._worth_a_line(progress):
            self.line(format.step_line(progress))

    def line(self, text: str) -> None:
        """Print a line above the bar; it is shown as it is."""
        self._console.print(Text(text), soft_wrap=True)

    def _worth_a_line(self, progress: Mapping[str, Any]) -> bool:
        step, total = progress["step"], progress.get("totalSteps") or 0
        percent = 100 * step // total if total else 0
        told_step, told_percent, told_time = self._told
        now = time.monotonic()
        if step == told_step or (percent == told_percent and now - told_time < PLAIN_SECONDS and step != total):
            return False
        self._told = (step, percent, now)
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
                (f"  {100 * step / total:.0f}%", "cyan"),
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
