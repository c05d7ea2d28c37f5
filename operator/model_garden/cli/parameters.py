"""Flags that commands share, and the sections of the help. Nothing heavy is imported here."""

from typing import Annotated

import typer

HERE = "On this machine"
CLUSTER = "On a cluster"
ABOUT = "About"

Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace. [default: that of the context]")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig. [default: the current one]")]
