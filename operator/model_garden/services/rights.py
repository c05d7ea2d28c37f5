"""PURE: which right a caller lacks, and how an administrator grants it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_REFUSED = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "[^"]*"'
    r' in the namespace "(?P<namespace>[^"]+)"'
)
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):([^:]+)")
_READING = ("get", "list", "watch")


@dataclass(frozen=True)
class MissingRight:
    """What a user may not do in a namespace."""

    user: str
    verb: str
    resource: str
    namespace: str

    @property
    def role(self) -> str:
        """The ClusterRole that holds it: one of Kubernetes' own, into which those of the chart go."""
        return "view" if self.verb in _READING else "edit"

    @property
    def command(self) -> str:
        """The command that grants it."""
        account = _ACCOUNT.fullmatch(self.user)
        name = re.sub(r"[^a-z0-9]+", "-", (account[2] if account else self.user).lower()).strip("-")[:40]
        subject = f"--serviceaccount={account[1]}:{account[2]}" if account else f"--user={self.user}"
        words = ["kubectl", "create", "rolebinding", f"{name}-{self.role}", f"--clusterrole={self.role}", subject]
        return shlex.join([*words, f"--namespace={self.namespace}"])


def missing_right(message: str) -> MissingRight | None:
    """The right that the API server's refusal names; None for a refusal of another kind.

    >>> missing_right('x is forbidden: User "a" cannot list resource "pods" in API group "" in the namespace "b"')
    MissingRight(user='a', verb='list', resource='pods', namespace='b')
    """
    found = _REFUSED.search(message)
    return MissingRight(**found.groupdict()) if found else None
