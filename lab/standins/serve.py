"""Runs a stand-in as a Terraform plugin: handshake, own certificate, plan and error handling.

PyPI ``tf`` brings protocol 6 and its coding. Its own runner and planner are not used, for four reasons found by trying:
its runner writes the TLS key into the home directory (two providers that start together race for the file, and an
unwritable home stops them); its planner never asks the resource about a creation; it cannot replace because of
a computed field; an exception reaches the user as gRPC text.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, Protocol

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from tf import provider as tf_provider
from tf.gen import (
    grpc_controller_pb2,
    grpc_controller_pb2_grpc,
    grpc_stdio_pb2_grpc,
    tfplugin_pb2,
    tfplugin_pb2_grpc,
)
from tf.utils import Diagnostics, to_dynamic_value

from lab.standins.failure import Failure

State = dict[str, Any]
PARENT_CHECK_SECONDS = 0.2
COOKIE = ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2")
"""Terraform's public handshake value: tells a plugin started by Terraform from one started by hand."""

stopping = threading.Event()
"""Set when Terraform asks for a stop: waits inside an operation end early."""


class Plannable(Protocol):
    """What the servicer asks of a resource beyond ``tf``'s own protocol."""

    def plan_change(self, prior: State | None, proposed: State) -> tuple[State, list[str]]:
        """The planned state and the attributes whose change replaces the resource; raises Failure."""


def report(diagnostics: Any, failure: Failure) -> None:
    """Adds the failure as an error diagnostic."""
    path = [failure.attribute] if failure.attribute else None
    diagnostics.add_error(failure.summary, failure.detail, path=path)


class Servicer(tf_provider.ProviderServicer):  # type: ignore[misc]
    """``tf``'s servicer with planning by the resource itself.

    Responses carry the legacy type system flag, as those of every SDK v2 provider do (the real kubectl provider is
    one): a default shows in the plan although the attribute is not computed, a computed value may change in an update.
    """

    def PlanResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Plan by asking the resource, for creations too."""
        attributes = self._get_res_attrs(request.type_name)
        diagnostics = Diagnostics()
        _, prior = tf_provider._decode_state(diagnostics, attributes, {}, request.prior_state)
        encoded, proposed = tf_provider._decode_state(diagnostics, attributes, {}, request.proposed_new_state)
        response = tfplugin_pb2.PlanResourceChange.Response(legacy_type_system=True)
        if proposed is not None:
            resource = self.app.new_resource(self._get_res_cls(request.type_name))
            try:
                planned, replaced = resource.plan_change(prior, proposed)
            except Failure as failure:
                report(diagnostics, failure)
            else:
                planned_state = tf_provider._encode_state(attributes, {}, planned, encoded)
                response.planned_state.CopyFrom(planned_state)
                response.requires_replace.extend(tf_provider._to_attribute_path([name]) for name in replaced)
        response.diagnostics.extend(diagnostics.to_pb())
        return response

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Keeps what the schema knows: a state that the real provider wrote has attributes that a stand-in lacks."""
        held = json.loads(request.raw_state.json)
        kept = {name: held.get(name) for name in self._get_res_attrs(request.type_name)}
        return tfplugin_pb2.UpgradeResourceState.Response(upgraded_state=to_dynamic_value(kept))

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802
        """As ``tf`` does it, with the legacy flag."""
        response = super().ApplyResourceChange(request, context)
        response.legacy_type_system = True
        return response

    def StopProvider(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Ends waits; the operation in hand finishes with an error diagnostic."""
        stopping.set()
        return super().StopProvider(request, context)


def _certificate() -> tuple[bytes, bytes, bytes]:
    """A key and a certificate for this process only: ``(key PEM, certificate PEM, certificate DER)``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding
    key_pem = key.private_bytes(encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key_pem, certificate.public_bytes(encoding.PEM), certificate.public_bytes(encoding.DER)


def _plugin_services(server: Any, shut_down: Callable[[], None]) -> None:
    """The two services that Terraform's plugin client expects beside the provider's own."""

    class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):  # type: ignore[misc]
        def Shutdown(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
            shut_down()
            return grpc_controller_pb2.Empty()

    class Stdio(grpc_stdio_pb2_grpc.GRPCStdioServicer):  # type: ignore[misc]
        def StreamStdio(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
            return iter([])

    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(Controller(), server)
    grpc_stdio_pb2_grpc.add_GRPCStdioServicer_to_server(Stdio(), server)


def serve(provider: Any) -> int:
    """Serves until Terraform says stop or is gone; returns the exit code.

    The socket lies in a private temporary folder that is removed at the end. Ctrl-C is Terraform's to handle: it
    reaches the whole process group, and a write in hand must not be cut off by it.
    """
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        print(f"{provider.full_name()} is a lab stand-in and is started by terraform, not by hand", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent, ended = os.getppid(), threading.Event()
    key_pem, certificate_pem, certificate_der = _certificate()
    with tempfile.TemporaryDirectory(prefix="standin-") as folder:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
        tfplugin_pb2_grpc.add_ProviderServicer_to_server(Servicer(provider), server)
        _plugin_services(server, ended.set)
        address = f"{folder}/plugin.sock"
        server.add_secure_port(f"unix://{address}", grpc.ssl_server_credentials([(key_pem, certificate_pem)]))
        server.start()
        encoded = base64.b64encode(certificate_der).decode().rstrip("=")
        print(f"1|6|unix|{address}|grpc|{encoded}", flush=True)
        # A killed terraform cannot say stop: a changed parent is the only sign of it.
        while not ended.wait(PARENT_CHECK_SECONDS) and os.getppid() == parent:
            pass
        stopping.set()
        server.stop(grace=0.5).wait()
    return 0
