"""The Hugging Face Hub as a place for a finished output. The token comes from HF_TOKEN and goes nowhere but there."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from model_garden.contract.options import PushToHub
from model_garden.contract.progress import WarningEvent
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report, log
from model_garden_trainer.exports.outputs import RECORD, STAYS, goes_along

TOKEN_ENV = "HF_TOKEN"
_REFUSED = (401, 403)


def check(target: PushToHub, report: Report) -> None:
    """Check before training that the token can write to the repository; warn if the Hub does not answer.

    Raises:
        TrainingError: InvalidSpec.
    """
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if not _token():
        raise TrainingError(
            "InvalidSpec",
            f"spec.pushToHub: {TOKEN_ENV} is not set, so nothing can be pushed to {target.repo}; set hubTokenSecret "
            f"to a Secret that holds a token with write access (on your own machine: export {TOKEN_ENV}=…)",
        )
    try:
        account = _api().whoami()
        _refuse_unless_writing(target, account)
        _api().auth_check(target.repo, write=True)
    except RepositoryNotFoundError:
        return  # the push creates it
    except (httpx.HTTPError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in _REFUSED:
            raise TrainingError(
                "InvalidSpec",
                f"spec.pushToHub: the token in {TOKEN_ENV} may not write to {target.repo} ({_words(error)}); set "
                "hubTokenSecret to a Secret that holds a token with write access",
            ) from None
        message = (
            f"the Hub does not answer ({_words(error)}), so write access to {target.repo} was not checked; "
            "training continues"
        )
        report(WarningEvent(message=message))
        log(message)


def push(target: PushToHub, name: str, output: Path, record: str) -> str:
    """Upload an output, without what does not go along, as one commit; the repository is made where there is none.

    Args:
        target: the repository.
        name: the job's.
        output: the folder.
        record: the content of ``training_config.json``, which is written there only after the upload.

    Returns:
        The repository's page.

    Raises:
        TrainingError: ExportFailed; the output is kept.
    """
    from huggingface_hub import CommitOperationAdd

    files = [path for path in sorted(output.rglob("*")) if path.is_file() and goes_along(path.relative_to(output))]
    operations = [CommitOperationAdd(path.relative_to(output).as_posix(), path) for path in files]
    operations.append(CommitOperationAdd(RECORD, record.encode()))
    try:
        page = _api().create_repo(target.repo, private=target.private is not False, exist_ok=True)
        _api().create_commit(target.repo, operations, commit_message=f"{name}, trained by Model Garden")
    except Exception as error:
        kept = " ".join(f"--exclude {shlex.quote(pattern)}" for pattern in STAYS)
        raise TrainingError(
            "ExportFailed",
            f"spec.pushToHub: the upload to {target.repo} failed: {_words(error)}; the model is kept at {output}. "
            "Fix the problem, then run a job with the same spec and the same outputDir: it saves and pushes without "
            f"training. Or run: hf upload {target.repo} {output} {kept}",
        ) from None
    return str(page)


def _refuse_unless_writing(target: PushToHub, account: dict[str, Any]) -> None:
    token = (account.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise TrainingError(
            "InvalidSpec",
            f"spec.pushToHub: the token in {TOKEN_ENV} ({token.get('displayName', 'without a name')}) may only read; "
            f"make one that may write to {target.repo}",
        )
    owner = target.repo.split("/")[0]
    mine = [account.get("name"), *(organization.get("name") for organization in account.get("orgs") or ())]
    if token.get("role") == "write" and owner not in mine:
        raise TrainingError(
            "InvalidSpec",
            f"spec.pushToHub.repo: {target.repo} belongs to {owner}, and the token to {account.get('name')}, who is no "
            f"member there; choose a repository of {', '.join(map(str, mine))}",
        )


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(token=_token())


def _token() -> str:
    return os.environ.get(TOKEN_ENV, "").strip()


def _words(error: Exception) -> str:
    """The first line of an error, with the token removed."""
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if isinstance(error, OSError) else f"{type(error).__name__}: {lines[0]}"
    return text.replace(_token() or "\0", "***")
