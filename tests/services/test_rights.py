"""What a caller is told of a right that is missing."""

import pytest

from model_garden.services.rights import missing_right

REFUSED = (
    'trainingjobs.model-garden.dev is forbidden: User "{user}" cannot {verb} resource "trainingjobs" in API group '
    '"model-garden.dev" in the namespace "research"'
)


@pytest.mark.parametrize(
    ("user", "verb", "command"),
    [
        (
            "system:serviceaccount:teams:trainer",
            "create",
            "kubectl create rolebinding trainer-edit --clusterrole=edit --serviceaccount=teams:trainer "
            "--namespace=research",
        ),
        (
            "oidc:Ada@x.test",
            "list",
            "kubectl create rolebinding oidc-ada-x-test-view --clusterrole=view --user=oidc:Ada@x.test "
            "--namespace=research",
        ),
        (
            "a; rm -rf /",
            "list",
            "kubectl create rolebinding a-rm-rf-view --clusterrole=view '--user=a; rm -rf /' --namespace=research",
        ),
    ],
)
def test_the_command_that_grants_it(user: str, verb: str, command: str) -> None:
    right = missing_right(REFUSED.format(user=user, verb=verb))
    assert right is not None
    assert right.command == command


def test_another_refusal_names_no_right() -> None:
    assert missing_right('pods "x" is forbidden: exceeded quota: q') is None
