"""The commands about data sets and models of a cluster: their flags and their help. Nothing heavy is imported here."""

from typing import Annotated, Literal

import typer

from model_garden.cli.help import Command, Group, UploadCommand
from model_garden.cli.parameters import CLUSTER, Context, MaxTokens, Namespace, TokenModel, Vision

DataClaim = Annotated[
    str | None,
    typer.Option("--data-claim", metavar="CLAIM", help="Claim of data sets. [default: model-garden-data]"),
]
ModelsClaim = Annotated[
    str | None,
    typer.Option("--models-claim", metavar="CLAIM", help="Claim of models. [default: model-garden-models]"),
]
Image = Annotated[
    str | None,
    typer.Option(
        "--storage-image",
        metavar="IMAGE",
        help="Image of the pod that mounts the claims: the operator's. [default: $MODEL_GARDEN_STORAGE_IMAGE, else "
        "model-garden/operator of this version]",
    ),
]
Listed = Annotated[Literal["table", "json", "name"], typer.Option("--output", "-o", help="Format of the list.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("upload", rich_help_panel=CLUSTER, cls=UploadCommand)(upload)
    app.command("download", rich_help_panel=CLUSTER, cls=Command)(download)
    for name, noun, ls, rm in (("data", "data sets", data_ls, data_rm), ("models", "models", models_ls, models_rm)):
        group = typer.Typer(cls=Group, rich_markup_mode=None, no_args_is_help=True, help=f"List and delete {noun}.")
        group.command("ls", cls=Command)(ls)
        group.command("rm", cls=Command)(rm)
        app.add_typer(group, name=name, rich_help_panel=CLUSTER)


def upload(
    ctx: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Data file, or folder with data files.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="FOLDER", help="Folder, such as data/receipts. [default: DATA's name]")
    ] = None,
    vision: Vision = None,
    base_model: TokenModel = None,
    max_seq_length: MaxTokens = None,
    data_claim: DataClaim = None,
    models_claim: ModelsClaim = None,
    storage_image: Image = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Check a data set and upload it with the images that its rows name. Print its path for a job."""
    from model_garden.cli.data import fields_of
    from model_garden.cli.storage import Where
    from model_garden.cli.upload import upload as run_upload

    fields = fields_of(ctx.obj, vision, base_model, max_seq_length)
    run_upload(data, to, fields, Where(namespace, context, data_claim, models_claim, storage_image))


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Job name, @latest for the newest, or name of a model.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FOLDER", help="New folder. [default: ./models/NAME]")
    ] = None,
    data_claim: DataClaim = None,
    models_claim: ModelsClaim = None,
    storage_image: Image = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Download the model of a job, and check every file by its SHA-256. Checkpoints stay."""
    from model_garden.cli.download import download as run_download
    from model_garden.cli.storage import Where

    run_download(name, output, Where(namespace, context, data_claim, models_claim, storage_image))


def data_ls(
    output: Listed = "table",
    data_claim: DataClaim = None,
    models_claim: ModelsClaim = None,
    storage_image: Image = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """List the data sets of the data claim."""
    from model_garden.cli.storage import Where, list_datasets

    list_datasets(Where(namespace, context, data_claim, models_claim, storage_image), output)


def data_rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Data sets to delete.")],
    data_claim: DataClaim = None,
    models_claim: ModelsClaim = None,
    storage_image: Image = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Delete data sets with all their files."""
    from model_garden.cli.storage import Where, remove

    remove(names, "data", Where(namespace, context, data_claim, models_claim, storage_image))


def models_ls(
    output: Listed = "table",
    data_claim: DataClaim = None,
    models_claim: ModelsClaim = None,
    storage_image: Image = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """List the models of the models claim."""
    from model_garden.cli.storage import Where, list_models

    list_models(Where(namespace, context, data_claim, models_claim, storage_image), output)


def models_rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Models to delete.")],
    data_claim: DataClaim = None,
    models_claim: ModelsClaim = None,
    storage_image: Image = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Delete models with their checkpoints. Their jobs stay."""
    from model_garden.cli.storage import Where, remove

    remove(names, "models", Where(namespace, context, data_claim, models_claim, storage_image))
