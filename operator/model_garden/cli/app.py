"""Every command of ``model-garden``: its flags and its help. Each command calls the module that does the work.

Nothing heavy is imported here, so that ``--help`` answers at once. A command imports what it needs when it is called.
"""

import sys
from typing import Annotated, Literal

import typer

from model_garden import __version__
from model_garden.cli import data_app, model_app, storage_app, webhook_app
from model_garden.cli.help import CONTEXT, ClusterCommand, Command, Group, SpecCommand, TextCommand
from model_garden.cli.output import error
from model_garden.cli.parameters import ABOUT, CLUSTER, HERE, Context, Namespace, Output
from model_garden.cli.storage_app import Image

app = typer.Typer(
    name="model-garden",
    cls=Group,
    help="Fine-tune text and vision-language models, on this machine or on Kubernetes.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=CONTEXT,
)


def complete_names(incomplete: str) -> list[str]:
    """Names of the jobs in the current namespace, for the shell's completion."""
    from model_garden.cli.jobs import names_for_completion

    return [name for name in names_for_completion() if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Job name, or @latest for the newest.", autocompletion=complete_names),
]
File = Annotated[str, typer.Argument(metavar="FILE", help="TrainingJob in YAML or JSON. - reads stdin.")]
FileOrFlags = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="TrainingJob in YAML or JSON. - reads stdin. Flags override its fields."),
]
Kind = Annotated[bool | None, typer.Option("--vision/--text", help="Kind of model. [default: text]")]
Gpus = Annotated[int | None, typer.Option("--gpus", min=0, help="GPUs per pod. [default: 1]")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the spec, such as hyperparameters.maxSteps=100."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the job ends. Exit code 0 means success.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show live progress until the job ends.")]
Logs = Annotated[bool, typer.Option("--logs", help="Print the trainer's log until the job ends.")]
JobName = Annotated[str | None, typer.Option("--name", help="Name of the new job.")]


@app.command("train", rich_help_panel=HERE, cls=TextCommand)
def train(ctx: typer.Context, sets: Sets = None, output: Output = "table") -> None:
    """Fine-tune a text model."""
    from model_garden.cli.local import train_from_flags

    train_from_flags(ctx.obj, sets, vision=False, output=output)


@app.command("train-vision", rich_help_panel=HERE, cls=SpecCommand)
def train_vision(ctx: typer.Context, sets: Sets = None, output: Output = "table") -> None:
    """Fine-tune a vision-language model."""
    from model_garden.cli.local import train_from_flags

    train_from_flags(ctx.obj, sets, vision=True, output=output)


@app.command("run", rich_help_panel=HERE, cls=Command)
def run(file: File, sets: Sets = None, output: Output = "table") -> None:
    """Run a TrainingJob from its file, without a cluster."""
    from model_garden.cli.local import run_file

    run_file(file, sets, output=output)


data_app.register(app)


@app.command("submit", rich_help_panel=CLUSTER, cls=ClusterCommand)
def submit(
    ctx: typer.Context,
    file: FileOrFlags = None,
    name: JobName = None,
    vision: Kind = None,
    gpus: Gpus = None,
    sets: Sets = None,
    upload: Annotated[
        bool, typer.Option("--upload", help="Upload the data sets first, from this machine to the data claim.")
    ] = False,
    storage_image: Image = None,
    wait: Wait = False,
    watch: Watch = False,
    logs: Logs = False,
    dry_run: Annotated[
        Literal["none", "client", "server"],
        typer.Option("--dry-run", help="client: print the TrainingJob. server: let the API server check it too."),
    ] = "none",
    output: Annotated[
        Literal["name", "yaml", "json"] | None,
        typer.Option("--output", "-o", help="Format of the printed TrainingJob."),
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Create a TrainingJob from a file or from flags."""
    from model_garden.cli.follow import Follow
    from model_garden.cli.submit import Creation
    from model_garden.cli.submit import submit as create

    how = Creation(Follow.of(wait, watch, logs), dry_run, output, namespace, context)
    create(file, ctx.obj, sets, how, name=name, vision=vision, gpus=gpus, upload=upload, storage_image=storage_image)


@app.command("estimate", rich_help_panel=CLUSTER, cls=ClusterCommand)
def estimate(
    ctx: typer.Context,
    file: FileOrFlags = None,
    vision: Kind = None,
    gpus: Gpus = None,
    sets: Sets = None,
    model_config: Annotated[
        str | None,
        typer.Option(
            "--model-config",
            metavar="FILE",
            help="config.json of the base model. [default: that of its folder, or the Hub's]",
        ),
    ] = None,
    output: Output = "table",
    context: Context = None,
) -> None:
    """Show the memory and the disk space that a job needs, and the GPUs that fit. Exit code 1 means that none fits."""
    from model_garden.cli.estimate import estimate as show
    from model_garden.cli.submit import job_of_flags

    job = job_of_flags(file, ctx.obj, sets, vision=vision, gpus=gpus)
    show(job, model_config, output=output, context=context)


@app.command("render", rich_help_panel=CLUSTER, cls=Command)
def render(
    file: File,
    sets: Sets = None,
    output: Annotated[Literal["yaml", "json"], typer.Option("--output", "-o", help="Format of the Job.")] = "yaml",
    namespace: Namespace = None,
) -> None:
    """Print the Kubernetes Job that the operator creates for a TrainingJob."""
    from model_garden.cli.render import render_job

    render_job(file, sets, output=output, namespace=namespace)


@app.command("list", rich_help_panel=CLUSTER, cls=Command)
def list_(
    output: Annotated[
        Literal["wide", "json", "yaml", "name"] | None, typer.Option("--output", "-o", help="Format of the list.")
    ] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="List all namespaces.")] = False,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """List TrainingJobs, oldest first."""
    from model_garden.cli.jobs import list_jobs

    list_jobs(output=output, all_namespaces=all_namespaces, namespace=namespace, context=context)


@app.command("get", rich_help_panel=CLUSTER, cls=Command)
def get(
    name: Name,
    output: Annotated[
        Literal["json", "yaml", "name"] | None, typer.Option("--output", "-o", help="Format of the job.")
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show a TrainingJob: progress, attempts, output, and why it waits or failed."""
    from model_garden.cli.jobs import get_job

    get_job(name, output=output, namespace=namespace, context=context)


@app.command("watch", rich_help_panel=CLUSTER, cls=Command)
def watch_(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Show live progress until the job ends. Exit code 0 means success."""
    from model_garden.cli.follow import Follow, follow_job

    follow_job(name, Follow.WATCH, namespace=namespace, context=context)


@app.command("logs", rich_help_panel=CLUSTER, cls=Command)
def logs_(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=0, help="Number of lines to print, from the end.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print the JSON events of the trainer as they are.")] = False,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Print the trainer's log."""
    from model_garden.cli.follow import print_logs

    print_logs(name, follow=follow, tail=tail, raw=raw, namespace=namespace, context=context)


@app.command("stop", rich_help_panel=CLUSTER, cls=Command)
def stop(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """End training early, save the model, and mark the job Succeeded."""
    from model_garden.cli.jobs import change_job

    change_job("stop", name, namespace=namespace, context=context)


@app.command("cancel", rich_help_panel=CLUSTER, cls=Command)
def cancel(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Stop the job and mark it Cancelled. No model is saved; the last checkpoint stays."""
    from model_garden.cli.jobs import change_job

    change_job("cancel", name, namespace=namespace, context=context)


@app.command("suspend", rich_help_panel=CLUSTER, cls=Command)
def suspend(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Pause the job: save a checkpoint and release its GPUs."""
    from model_garden.cli.jobs import change_job

    change_job("suspend", name, namespace=namespace, context=context)


@app.command("resume", rich_help_panel=CLUSTER, cls=Command)
def resume(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Resume a suspended job from its last checkpoint."""
    from model_garden.cli.jobs import change_job

    change_job("resume", name, namespace=namespace, context=context)


@app.command("rerun", rich_help_panel=CLUSTER, cls=Command)
def rerun(
    name: Name,
    new_name: JobName = None,
    sets: Sets = None,
    wait: Wait = False,
    watch: Watch = False,
    logs: Logs = False,
    dry_run: Annotated[
        Literal["none", "client", "server"],
        typer.Option("--dry-run", help="client: print the TrainingJob. server: let the API server check it too."),
    ] = "none",
    output: Annotated[
        Literal["name", "yaml", "json"] | None,
        typer.Option("--output", "-o", help="Format of the printed TrainingJob."),
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Create a new job with the spec of an old one. It trains from the beginning, in its own output folder.

    --set changes fields.
    """
    from model_garden.cli.follow import Follow
    from model_garden.cli.submit import Creation
    from model_garden.cli.submit import rerun as create

    create(name, new_name, sets, Creation(Follow.of(wait, watch, logs), dry_run, output, namespace, context))


@app.command("delete", rich_help_panel=CLUSTER, cls=Command)
def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Jobs to delete.", autocompletion=complete_names)],
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Delete jobs and their pods. Their models stay."""
    from model_garden.cli.jobs import delete_jobs

    delete_jobs(names, namespace=namespace, context=context)


storage_app.register(app)
model_app.register(app)
webhook_app.register(app)


@app.command("serve", rich_help_panel=CLUSTER, cls=Command)
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 chooses a free one.")
    ] = 8000,
    local: Annotated[
        bool, typer.Option("--local", help="Run jobs on this machine, in the current folder, without a cluster.")
    ] = False,
    urls: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Address that people open, such as https://garden.example.com, if it is not that of --host. "
            "Repeatable. Requests to other addresses are refused.",
        ),
    ] = None,
    proxy_auth: Annotated[
        bool,
        typer.Option(
            "--proxy-auth",
            help="An authenticating proxy in front sends each person's token, as Authorization or as "
            "X-Forwarded-Access-Token.",
        ),
    ] = False,
    context: Context = None,
) -> None:
    """Serve the REST API and the web pages. If there is no kubeconfig, --local is the default."""
    from model_garden.cli.serve import Place
    from model_garden.cli.serve import serve as run_server

    run_server(Place(host, port, urls or (), proxy_auth), local=local, context=context)


@app.command("version", rich_help_panel=ABOUT, cls=Command)
def version() -> None:
    """Print the version."""
    print(f"model-garden {__version__}")


def run_app() -> None:
    """Run the command that the arguments name.

    An expected error is printed, one line per problem, and sets the exit code. The traceback of any other is written to
    a file for a bug report, and the path of that file is printed.
    """
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as failed:
        from model_garden.cli.errors import command_error, unexpected

        found = command_error(failed) or unexpected(failed)
        for problem in found.problems:
            error(problem)
        sys.exit(found.exit_code)
