"""The lab's certificates: one CA, a front-proxy CA, server and client certificates, kubeconfigs.

Everything is elliptic-curve (P-256): making RSA keys would take longer than starting the cluster.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 365
CLOCK_SKEW = timedelta(hours=1)
SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
ADMIN_GROUP = "system:masters"
ADMIN = "gpumem-lab-admin"
CONTROLLER_MANAGER = "system:kube-controller-manager"
SCHEDULER = "system:kube-scheduler"
APISERVER_TO_KUBELET = "kube-apiserver-kubelet-client"
POD_LIFE = "gpumem-lab-pod-life"


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, at no moment otherwise; replaces it atomically."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(content)
    scratch.replace(path)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority that lives in a folder as ``<name>.crt`` and ``<name>.key``."""

    def __init__(self, folder: Path, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.folder = folder
        self.cert_path = folder / f"{name}.crt"
        self._cert = cert
        self._key = key

    @classmethod
    def create(cls, folder: Path, name: str) -> Authority:
        """A new self-signed authority, written to `folder`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(f"gpumem-lab-{name}", [])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        builder = _builder(subject, subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        cert = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
        _write_pair(folder, name, cert, key)
        return cls(folder, name, cert, key)

    @classmethod
    def load(cls, folder: Path, name: str) -> Authority:
        """The authority that `create` wrote earlier."""
        cert = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{folder / name}.key is no elliptic-curve key, and the lab writes no other")
        return cls(folder, name, cert, key)

    def server(self, name: str) -> KeyPair:
        """A certificate for servers on loopback; also usable as a client (etcd's peers need both)."""
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in SERVER_NAMES]
        names += [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "10.96.0.1")]
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(name, _subject(name, []), both, names)

    def client(self, file_name: str, user: str, groups: Sequence[str] = ()) -> KeyPair:
        """A certificate that Kubernetes reads as `user` in `groups`."""
        return self._issue(file_name, _subject(user, groups), [ExtendedKeyUsageOID.CLIENT_AUTH], [])

    def _issue(
        self,
        name: str,
        subject: x509.Name,
        usages: list[x509.ObjectIdentifier],
        names: list[x509.GeneralName],
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, self._cert.subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _write_pair(self.folder, name, builder.sign(self._key, hashes.SHA256()), key)


def create_pki(folder: Path) -> Authority:
    """Writes everything the control plane needs into `folder` and returns its authority.

    Files: ``ca``, ``front-proxy-ca``, ``front-proxy-client``, ``apiserver``, ``etcd``, one client
    each for admin, controller-manager, scheduler, pod life and the API server itself (``.crt`` and
    ``.key``), and ``service-account.key`` with its public half ``service-account.pub``.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority.create(folder, "ca")
    Authority.create(folder, "front-proxy-ca").client("front-proxy-client", "front-proxy-client")
    for server in ("apiserver", "etcd"):
        authority.server(server)
    authority.client("admin", ADMIN, [ADMIN_GROUP])
    authority.client("controller-manager", CONTROLLER_MANAGER)
    authority.client("scheduler", SCHEDULER)
    authority.client("apiserver-kubelet-client", APISERVER_TO_KUBELET, [ADMIN_GROUP])
    authority.client("pod-life", POD_LIFE, [ADMIN_GROUP])
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / "service-account.key", _key_pem(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "service-account.pub").write_bytes(public)
    return authority


def write_kubeconfig(
    path: Path, server: str, ca: Path, user: str, *, pair: KeyPair | None = None, token: str = ""
) -> Path:
    """A kubeconfig with everything embedded (it can be copied away), mode 0600.

    Exactly one of `pair` (client certificate) and `token` (bearer) says who it is.
    """
    if (pair is None) == (not token):
        raise ValueError("a kubeconfig takes either a client certificate or a token")
    who: dict[str, str] = {"token": token}
    if pair is not None:
        who = {"client-certificate-data": _base64(pair.cert), "client-key-data": _base64(pair.key)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": _base64(ca)}}],
        "users": [{"name": user, "user": who}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    }
    write_private(path, yaml.safe_dump(document, sort_keys=False).encode())
    return path


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - CLOCK_SKEW).not_valid_after(now + timedelta(days=VALID_DAYS))


def _subject(user: str, groups: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*parts, _common_name(user)])


def _write_pair(folder: Path, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    pair = KeyPair(cert=folder / f"{name}.crt", key=folder / f"{name}.key")
    write_private(pair.key, _key_pem(key))
    pair.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return pair


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _common_name(user: str) -> x509.NameAttribute[str]:
    # RFC 5280 ends a common name at 64 characters and no Go program checks it; the user of a node that an
    # autoscaler has named is longer, and a kubelet has no other user.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return x509.NameAttribute(NameOID.COMMON_NAME, user, _validate=False)
