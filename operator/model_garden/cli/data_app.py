"""The commands that check, show and write data sets: their flags and their help. Nothing heavy is imported here."""

from typing import Annotated

import typer

from model_garden.cli.help import Command, DataCommand
from model_garden.cli.parameters import HERE, MaxTokens, Output, TokenModel, Vision


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("validate", rich_help_panel=HERE, cls=DataCommand)(validate)
    app.command("preview", rich_help_panel=HERE, cls=DataCommand)(preview)
    app.command("create-dataset", rich_help_panel=HERE, cls=Command)(create_dataset)
    app.command("create-vision-dataset", rich_help_panel=HERE, cls=Command)(create_vision_dataset)


def validate(
    ctx: typer.Context,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="Data set (file, folder or address; jsonl, json, csv, parquet) or TrainingJob (yaml)."
        ),
    ],
    vision: Vision = None,
    base_model: TokenModel = None,
    max_seq_length: MaxTokens = None,
    output: Output = "table",
) -> None:
    """Check every row of a data set, or a TrainingJob and its data set. Flags override the job's fields."""
    from model_garden.cli.data import fields_of
    from model_garden.cli.data import validate as check

    check(path, fields_of(ctx.obj, vision, base_model, max_seq_length), output=output)


def preview(
    ctx: typer.Context,
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="Data set (jsonl, json, csv, parquet) or TrainingJob (yaml)."),
    ],
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="Folder of the model to train. [default: the TrainingJob's]")
    ] = None,
    vision: Vision = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows to show.")] = 3,
    output: Output = "table",
) -> None:
    """Show rows as the model reads them, and mark the trained part."""
    from model_garden.cli.data import fields_of
    from model_garden.cli.preview import preview as show

    show(path, fields_of(ctx.obj, vision, base_model), rows=rows, output=output)


def create_dataset(
    output: Annotated[str, typer.Option("--output", help="File to write.")] = "./data/sample.jsonl",
    num_examples: Annotated[int, typer.Option("--num-examples", min=1, help="Rows to write.")] = 10,
) -> None:
    """Write a sample text data set."""
    from model_garden.cli.data import create

    create(output, num_examples, vision=False)


def create_vision_dataset(
    output: Annotated[str, typer.Option("--output", help="File to write. The images go to a folder beside it.")] = (
        "./data/sample_vision.jsonl"
    ),
    num_examples: Annotated[int, typer.Option("--num-examples", min=1, help="Rows to write, each with an image.")] = 10,
) -> None:
    """Write a sample vision data set with images."""
    from model_garden.cli.data import create

    create(output, num_examples, vision=True)
