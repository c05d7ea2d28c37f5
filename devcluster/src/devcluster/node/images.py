"""Which images are "present" on a node without images (pure): all, but those of a host that cannot exist.

The top-level domain `.invalid` is reserved never to be found (RFC 2606), so an image such as
`registry.invalid/trainer:1` is one that no node can pull: the way to test what a user sees then.
"""

import re

NAME = re.compile(r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9._/-]+(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?")


def image_problem(image: str) -> tuple[str, str] | None:
    """None for an image that is there; else reason and message as a kubelet reports them."""
    if not NAME.fullmatch(image):
        message = f'Failed to apply default image tag "{image}": couldn\'t parse image name: invalid reference format'
        return "InvalidImageName", message
    host = registry_host(image)
    if host == "invalid" or host.endswith(".invalid"):
        message = (
            f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
            f"dial tcp: lookup {host}: no such host"
        )
        return "ErrImagePull", message
    return None


def registry_host(image: str) -> str:
    """The registry's host of an image name, without the port; the default registry's is empty.

    >>> registry_host("registry.invalid:5000/team/trainer:1"), registry_host("team/trainer")
    ('registry.invalid', '')
    """
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return first.partition(":")[0] if is_host else ""
