"""Reads the tool calls of answers and the definitions of tools.

The forms are OpenAI's (``tool_calls``, ``tools``, and the older ``function_call``, ``functions``), and those of
ShareGPT and ms-swift, where the content of a turn is the call as JSON text.
"""

from __future__ import annotations

import json
from typing import Any

from model_garden.datasets.errors import RowError, kind_of, shown
from model_garden.datasets.example import ToolCall
from model_garden.datasets.values import as_list, as_text

TOOLS = ("tools", "functions")
"""Columns of the definitions of tools."""
_CALL = '{"function": {"name": …, "arguments": {…}}}'
_TOOL = '{"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}'


def read_calls(value: Any, name: str) -> tuple[ToolCall, ...]:
    """The calls of ``tool_calls``, or of a call alone.

    Raises:
        RowError: a call has no name, or its arguments are not an object.
    """
    calls = [value] if isinstance(value, dict) else as_list(value, name)
    names = [name] if isinstance(value, dict) else [f"{name}[{index}]" for index in range(len(calls))]
    return tuple(_call(call, place) for call, place in zip(calls, names, strict=True))


def read_spoken_calls(value: Any, name: str) -> tuple[ToolCall, ...]:
    """The calls in the content of a turn ``function_call``: JSON text, an object or a list.

    Raises:
        RowError: it is not JSON, or not a call.
    """
    return read_calls(_parsed(value, name, _CALL), name)


def read_tools(value: Any, name: str) -> tuple[dict[str, Any], ...]:
    """Definitions of tools, in OpenAI's form: a list, or the same as JSON text.

    Raises:
        RowError: they are not a list of definitions with names.
    """
    return tuple(
        _tool(entry, f"{name}[{index}]")
        for index, entry in enumerate(as_list(_parsed(value, name, f"[{_TOOL}]"), name))
    )


def _call(call: Any, name: str) -> ToolCall:
    if not isinstance(call, dict):
        raise RowError(f"{name} is {kind_of(call)} ({shown(call)})", f"write a call as {_CALL}")
    function = call.get("function", call)
    if not isinstance(function, dict) or not function.get("name"):
        raise RowError(f"{name} has no name of a tool ({shown(call)})", f"write a call as {_CALL}")
    arguments: Any = next((function[key] for key in ("arguments", "parameters") if function.get(key) is not None), {})
    if isinstance(arguments, str):
        arguments = _parsed(arguments, f"{name}.arguments", "an object {…}") if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise RowError(
            f"{name}.arguments is {kind_of(arguments)} ({shown(arguments)})", "write the arguments as an object {…}"
        )
    identity = call.get("id")
    return ToolCall(
        as_text(function["name"], f"{name}.name"),
        arguments,
        None if identity is None else as_text(identity, f"{name}.id", empty=True),
    )


def _tool(entry: Any, name: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise RowError(f"{name} is {kind_of(entry)} ({shown(entry)})", f"write a tool as {_TOOL}")
    tool = entry if "function" in entry else {"type": "function", "function": entry}
    function = tool["function"]
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"{name} has no name ({shown(entry)})", f"write a tool as {_TOOL}")
    return tool


def _parsed(value: Any, name: str, form: str) -> Any:
    """JSON text as a value; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise RowError(f"{name} is not valid JSON ({error}): {shown(value)}", f"write it as {form}") from None
