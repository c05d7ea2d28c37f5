"""Whose credentials a request uses: a client's ``api_key`` is the caller's token, and its ``project`` the namespace."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request

from model_garden.api.access import NAMESPACE, Access, Caller, LocalAccess, counted, counting, sent_authorization
from model_garden.api.problems import BadRequest

_OF_OPENAI = "proj_"
"""How the ids of OpenAI's own projects begin. No namespace can, and a client takes one from its environment."""


def caller_of(
    request: Request,
    project: Annotated[str | None, Header(alias="OpenAI-Project")] = None,
) -> Caller:
    """The request's caller, for ``Depends``.

    Raises:
        BadRequest: the project is not the name of a namespace.
        Unauthorized: there is no token where one is needed.
        TooManyRequests: the caller sends more than the server answers.
    """
    if project is not None and project.startswith(_OF_OPENAI):
        project = None
    if project is not None and not re.fullmatch(NAMESPACE, project):
        raise BadRequest(f"project: {project!r} is not the name of a namespace; give one, or no project")
    access: Access | LocalAccess = request.app.state.access
    return counted(request, access.caller(sent_authorization(request), project))


CallerOf = Annotated[Caller, Depends(caller_of)]
COUNTED = counting(caller_of)
"""The dependencies of a route that moves files."""
