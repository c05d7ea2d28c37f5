"""The commands that use a trained model: their flags and their help. Nothing heavy is imported here."""

from typing import Annotated

import typer

from model_garden.cli.help import Command
from model_garden.cli.output import CommandError
from model_garden.cli.parameters import CLUSTER, HERE, Context, Namespace, Output

Model = Annotated[
    str, typer.Argument(metavar="NAME", help="Folder of a model, its name in ./models, or the job that made it.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("chat", rich_help_panel=HERE, cls=Command)(chat)
    app.command("serving", rich_help_panel=CLUSTER, cls=Command)(serving)


def chat(
    name: Model,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Question. [default: the lines of standard input]")
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option("--image", metavar="FILE", help="Image of the first question.")
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Let the base model answer, without the adapter.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Let the base model answer, then the trained one.")
    ] = False,
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="Folder of the base model. [default: that of the job]")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 512,
) -> None:
    """Ask a trained model on this machine, and see its answer while it is made."""
    from model_garden.cli.chat import chat as answer

    if base and compare:
        raise CommandError("--base contradicts --compare; give one of them")
    answers = "compare" if compare else "base" if base else "tuned"
    answer(
        name,
        prompt=prompt,
        images=images or [],
        answers=answers,
        base_model=base_model,
        max_new_tokens=max_new_tokens,
    )


def serving(
    name: Model,
    output: Output = "table",
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Print how to use a trained model in transformers, vLLM, KServe, llama.cpp and Ollama."""
    from model_garden.cli.serving import print_serving

    print_serving(name, output=output, namespace=namespace, context=context)
