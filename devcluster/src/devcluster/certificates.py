"""The cluster's certificate authority, the certificates of its parts and the kubeconfigs that carry them."""

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devcluster.cluster import NODE_NAME, Cluster, write_whole

LIFETIME = datetime.timedelta(days=3650)

SERVERS: dict[str, Sequence[str]] = {
    "apiserver": ("localhost", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"),
    "node-server": (NODE_NAME, "127.0.0.1"),
}
"""Certificate -> the names and addresses it is valid for."""

CLIENTS: dict[str, tuple[str, str]] = {
    "admin": ("devcluster-admin", "system:masters"),
    "apiserver-to-node": ("kube-apiserver-kubelet-client", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "node": (f"system:node:{NODE_NAME}", "system:nodes"),
    "provisioner": ("devcluster-provisioner", ""),
    "front-proxy": ("front-proxy", ""),
}
"""Certificate -> user name and group, as the API server reads them from the subject."""

KUBECONFIGS = ("admin", "kube-controller-manager", "kube-scheduler", "node")


def ensure_certificates(pki: Path) -> None:
    """Makes the whole set in the folder `pki`; keeps it where it is complete (a later run signs nothing anew)."""
    complete, wanted = pki / "complete", "\n".join([*SERVERS, *CLIENTS])
    if complete.exists() and complete.read_text() == wanted:
        return
    authority, authority_key = _authority()
    _save(pki / "ca", authority, authority_key)
    for name, hosts in SERVERS.items():
        _save(pki / name, *_issue(authority, authority_key, hosts[0], "", hosts))
    for name, (user, group) in CLIENTS.items():
        _save(pki / name, *_issue(authority, authority_key, user, group, ()))
    _save_service_account_keys(pki)
    write_whole(complete, wanted)


def write_kubeconfigs(cluster: Cluster) -> None:
    """Writes a kubeconfig for each user that needs one; the port may have changed since the last time."""
    for user in KUBECONFIGS:
        path = cluster.kubeconfig if user == "admin" else cluster.pki / f"{user}.kubeconfig"
        credentials = {
            "client-certificate-data": _encoded(cluster.pki / f"{user}.crt"),
            "client-key-data": _encoded(cluster.pki / f"{user}.key"),
        }
        write_whole(path, kubeconfig(cluster.server, cluster.pki / "ca.crt", credentials, "default"))


def kubeconfig(server: str, authority: Path, credentials: dict[str, str], namespace: str) -> str:
    """A kubeconfig as JSON, which is YAML: one cluster, one user, one context."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "devcluster",
        "clusters": [
            {
                "name": "devcluster",
                "cluster": {"server": server, "certificate-authority-data": _encoded(authority)},
            }
        ],
        "users": [{"name": "devcluster", "user": credentials}],
        "contexts": [
            {"name": "devcluster", "context": {"cluster": "devcluster", "user": "devcluster", "namespace": namespace}}
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "devcluster-ca")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _issue(
    authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey, user: str, group: str, hosts: Sequence[str]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for a server (with `hosts`) or for a client (without)."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = (
        _builder(x509.Name(attributes), authority.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(signer, critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    return builder.sign(authority_key, hashes.SHA256()), key


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _save(stem: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_whole(stem.with_name(f"{stem.name}.crt"), certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    write_whole(stem.with_name(f"{stem.name}.key"), _private_pem(key))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _save_service_account_keys(pki: Path) -> None:
    """The pair that signs and checks the tokens of ServiceAccounts."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_whole(pki / "service-accounts.key", _private_pem(key))
    write_whole(pki / "service-accounts.pub", public, 0o644)
