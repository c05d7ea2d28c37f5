"""Where the cluster is and who we are there: a pod's service account, else a kubeconfig and one of its contexts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from model_garden.cluster.errors import NOT_CONFIGURED, ClusterError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG = "~/.kube/config"


def in_pod(context: str | None = None) -> bool:
    """Whether ``load`` takes the credentials of a pod's service account."""
    return not context and not os.environ.get("KUBECONFIG") and (SERVICE_ACCOUNT / "token").exists()


def remove_credentials(configuration: Any) -> None:
    """Keep the address of the API server and how to trust it; forget who we are there."""
    configuration.cert_file = configuration.key_file = None
    configuration.api_key, configuration.api_key_prefix = {}, {}
    configuration.username = configuration.password = None
    configuration.refresh_api_key_hook = None


async def load(configuration: Any, context: str | None = None) -> str:
    """Fill a ``kubernetes.aio`` Configuration with address and credentials, and return the default namespace.

    A context named, or ``KUBECONFIG`` set, takes precedence over the pod's service account.

    Raises:
        ClusterError: reason ``NotConfigured`` when there is nothing to load, with what to set.
    """
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.incluster_config import load_incluster_config
    from kubernetes.aio.config.kube_config import load_kube_config

    kubeconfig = os.environ.get("KUBECONFIG")
    try:
        if in_pod(context):
            load_incluster_config(configuration)
            return (SERVICE_ACCOUNT / "namespace").read_text().strip()
        files = [Path(part).expanduser() for part in (kubeconfig or DEFAULT_KUBECONFIG).split(os.pathsep) if part]
        if not any(file.exists() for file in files):
            raise FileNotFoundError("no such file")
        loader = await load_kube_config(
            config_file=os.pathsep.join(map(str, files)),
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    except (ConfigException, OSError) as error:
        where = f"KUBECONFIG={kubeconfig}" if kubeconfig else DEFAULT_KUBECONFIG
        wanted = f"context {context!r} of {where}" if context else where
        raise ClusterError(
            0,
            NOT_CONFIGURED,
            f"no cluster is configured: {wanted} cannot be used ({error}); "
            "set KUBECONFIG to a kubeconfig file, or name one of its contexts with --context",
        ) from error
    namespace = loader.current_context["context"].get("namespace")
    return str(namespace or "default")
