"""Flags that commands share, and the sections of the help. Nothing heavy is imported here."""

from typing import Annotated, Literal

import typer

HERE = "On this machine"
CLUSTER = "On a cluster"
ABOUT = "About"

Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="Format of the result.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace. [default: that of the context]")]
Vision = Annotated[
    bool | None,
    typer.Option("--vision/--text", help="Kind of model. [default: vision if the first rows have images, else text]"),
]
TokenModel = Annotated[
    str | None, typer.Option("--base-model", help="Folder of a model. Its tokenizer measures the rows.")
]
MaxTokens = Annotated[int | None, typer.Option("--max-seq-length", min=16, help="Longest row allowed, in tokens.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig. [default: the current one]")]
