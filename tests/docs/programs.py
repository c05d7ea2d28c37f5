"""The programs that the documentation calls, as the tests run them: bash finds them before the real ones.

``python -m tests.docs.programs NAME ARGUMENTS`` runs the program, with the changes that a test needs, or checks its
command line and does nothing. It appends what it did to the file ``$DOCS_LOG``. The exit code is 1 for a wrong command.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.docs.blocks import ROOT

Words = list[str]
FOREVER = (("kubectl", "port-forward"), ("model-garden", "serve"))
NOT_HERE = ("train", "train-vision", "run", "chat", "preview", "webhook")
"""Commands of ``model-garden`` that load a model, or call a server."""
HELM_CHANGES = ("install", "upgrade", "uninstall")
SMALL = ["--set", "resources.requests.cpu=10m", "--set", "resources.requests.memory=16Mi"]
"""What a job requests, so that several fit the machine of the tests."""
STAYS = {"get": ("--watch", "-w"), "logs": ("--follow", "-f")}
"""Flags with which kubectl does not end."""
KUBECTL_REMOVES = ("delete", "drain", "cordon", "uncordon")


class Wrong(Exception):
    """A command line that cannot work."""


def main(name: str, words: Words) -> int:
    """Run or check one command; return its exit code."""
    done, how = 0, "checked"
    try:
        match name:
            case "kubectl":
                done, how = kubectl(words)
            case "helm":
                done, how = helm(words)
            case "model-garden":
                done, how = model_garden(words)
            case "curl":
                words = [word.replace("http://localhost:8000", os.environ["DOCS_SERVER"]) for word in words]
                done, how = run("/usr/bin/curl", "--fail-with-body", "--silent", "--show-error", *words), "run"
            case "make":
                make(words)
            case "pip":
                pip(words)
            case "python" | "python3":
                python(words)
            case _:
                flags_exist([str(Path(sys.executable).parent / name)], words)
    except Wrong as wrong:
        print(f"{name} {' '.join(words)}: {wrong}", file=sys.stderr)
        return 1
    with Path(os.environ["DOCS_LOG"]).open("a") as log:
        log.write(f"{how}: {name} {' '.join(words)}\n")
    return done


def run(*command: str) -> int:
    """The exit code of a program that reads and writes what this one does."""
    return subprocess.run(command, check=False).returncode


def kubectl(words: Words) -> tuple[int, str]:
    """The real one. What removes is a dry run, and nothing is waited for."""
    program, verb = os.environ["DOCS_KUBECTL"], first(words)
    if ("kubectl", verb) in FOREVER:
        flags_exist([program], words)
        return 0, "checked"
    if verb == "wait":
        return waits(program, words), "run"
    if verb in ("get", "logs"):
        words = [
            word for word in words if word not in ("--watch", "-w", "--follow", *(["-f"] if verb == "logs" else []))
        ]
    if verb in KUBECTL_REMOVES:
        return run(program, *words, "--dry-run=server"), "dry run"
    if verb == "apply" and "--server-side" in words:  # the manifest, of which the chart has installed the same objects
        rest = [word for word in words if word not in ("apply", "--server-side")]
        return run(program, "create", *rest, "--dry-run=client", "--validate=strict"), "dry run"
    return made([program, *words]), "run"


def made(command: Words) -> int:
    """The exit code of a program; 0 too if an earlier command has done the same, since pages repeat each other."""
    said = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            sys.stderr.write(line)
            said += line
    return 0 if re.search("AlreadyExists|already has a TrainingJob|has already ended", said) else process.returncode


def waits(program: str, words: Words) -> int:
    """Ask once. The object must exist, and the condition may be false."""
    once = [word for word in words if not word.startswith("--timeout")]
    done = subprocess.run([program, *once, "--timeout=0"], capture_output=True, text=True, check=False)
    return 0 if done.returncode == 0 or "condition not met" in done.stderr else done.returncode


def helm(words: Words) -> tuple[int, str]:
    """The real one, against the cluster; what changes a release is a dry run."""
    program, verb = os.environ["DOCS_HELM"], first(words)
    if verb == "rollback":  # the release has one revision
        flags_exist([program], words)
        return 0, "checked"
    if verb not in HELM_CHANGES:
        return run(program, *words), "run"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # every object
    more = ["--dry-run"] if verb == "uninstall" else ["--dry-run=server", "--take-ownership"]
    given = ["upgrade", "--install", *words[words.index(verb) + 1 :]] if verb == "install" else words
    return run(program, *given, *more), "dry run"


def model_garden(words: Words) -> tuple[int, str]:
    """The real one, unless it trains, serves or needs the internet: then its own parser reads the command line."""
    verb = first(words)
    elsewhere = any(word.startswith("s3://") for word in words)
    if verb not in NOT_HERE and ("model-garden", verb) not in FOREVER and not elsewhere:
        small = SMALL if verb in ("submit", "rerun") else []
        return made([sys.executable, "-m", "model_garden.cli", *words, *small]), "run"
    import typer

    from model_garden.cli.app import app

    command: Any = typer.main.get_command(app)
    rest = words
    while hasattr(command, "commands"):
        name, rest = rest[0], rest[1:]
        if name not in command.commands:
            raise Wrong(f"there is no command {name!r}")
        command = command.commands[name]
    command.make_context(name, rest)  # exits with 2 if it is wrong
    return 0, "checked"


def make(words: Words) -> None:
    """The target exists, and the program that it starts knows the flags of ``ARGS``."""
    done = subprocess.run(["/usr/bin/make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(done.stderr)
    for word in words:
        if word.startswith("ARGS="):
            program = next(part for part in done.stdout.split() if part.endswith(".py"))
            flags_exist([sys.executable, str(ROOT / program)], word.removeprefix("ARGS=").split())


def pip(words: Words) -> None:
    """The extras exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for given in re.findall(r"\[([\w,-]+)\]", " ".join(words)):
        if unknown := set(given.split(",")) - set(extras):
            raise Wrong(f"the package has no extra {unknown}")


def python(words: Words) -> None:
    """``-m venv`` makes a folder to activate; a module of the project takes the flags; files exist."""
    match words:
        case ["-m", "venv", folder]:
            (Path(folder) / "bin").mkdir(parents=True)
            (Path(folder) / "bin" / "activate").touch()
        case ["-m", "pytest", *files]:
            if missing := [word for word in files if "/" in word and not (ROOT / word).exists()]:
                raise Wrong(f"there is no {missing}")
        case ["-m", module, *arguments]:
            flags_exist([sys.executable, "-m", module], arguments)
        case _:
            raise Wrong("nothing checks this command; add a rule to tests/docs/programs.py")


def flags_exist(program: Words, words: Words) -> None:
    """``--help`` names the command and each of its flags."""
    verb = [first(words)] if first(words) else []
    done = subprocess.run([*program, *verb, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(done.stderr)
    known = set(re.findall(r"--?[\w-]+", done.stdout))
    given = [word.partition("=")[0] for word in words if word.startswith("-")]
    if unknown := [flag for flag in given if flag not in known | {"-n", "--namespace"}]:
        raise Wrong(f"unknown flags {unknown}")


def first(words: Sequence[str]) -> str:
    """The command: the first word, or the first after ``-n NAMESPACE``."""
    rest = words[2:] if words[:1] and words[0] in ("-n", "--namespace") else words
    return rest[0] if rest and not rest[0].startswith("-") else ""


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
