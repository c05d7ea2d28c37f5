"""The command ``webhook test``: its flags and its help. Nothing heavy is imported here."""

from typing import Annotated

import typer

from model_garden.cli.help import Command, Group
from model_garden.cli.parameters import CLUSTER, Context, Namespace

LocalAddresses = Annotated[
    bool,
    typer.Option(
        "--allow-local-addresses",
        help="Post to a loopback or link-local address too, as the operator does with webhooks.allowLocalAddresses.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    group = typer.Typer(
        cls=Group, rich_markup_mode=None, no_args_is_help=True, help="Try the webhook that is told when jobs end."
    )
    group.callback()(lambda: None)  # with one command alone, typer would make no group
    group.command("test", cls=Command)(test)
    app.add_typer(group, name="webhook", rich_help_panel=CLUSTER)


def test(local: LocalAddresses = False, namespace: Namespace = None, context: Context = None) -> None:
    """Post a test message from this machine to the webhook of a namespace, in the Secret model-garden-webhook."""
    from model_garden.cli.webhook import send_test

    send_test(local=local, namespace=namespace, context=context)
