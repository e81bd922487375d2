"""The kubelet's side of the agent: two gRPC services on unix sockets, one to register, one to prepare claims.

The kubelet finds the plugin by the socket in its registry folder, and loses it when that socket goes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import grpc

from helpers.adapters import dra_messages as messages
from helpers.domain.dra import naming
from helpers.domain.dra.prepared import ClaimRef, PreparedClaim
from helpers.domain.errors import InputError
from helpers.ports.dra_agent import DraMetrics
from helpers.ports.log import Log

DRA_SOCKET = "dra.sock"
REGISTRATION_SOCKET = f"{naming.DRIVER}-reg.sock"
# struct sockaddr_un holds 108 bytes, the last of them a zero.
_LONGEST_PATH_BYTES = 107
_THREADS_COUNT = 4
# What is being prepared when the agent ends gets this long.
_GRACE_SECONDS = 5.0

Handler = Callable[[Any], Any]


class ClaimPreparer(Protocol):
    """What the kubelet's requests are answered by."""

    def prepare(self, refs: Sequence[ClaimRef]) -> dict[str, PreparedClaim | str]:
        """`{uid: what is prepared, or why it is not}`."""
        ...

    def unprepare(self, refs: Sequence[ClaimRef]) -> dict[str, str]:
        """`{uid: why it could not be taken back}`."""
        ...


class KubeletPlugin:
    """Serves both interfaces while `with` holds; `registered` is what the kubelet said last."""

    def __init__(
        self, preparer: ClaimPreparer, *, plugin_dir: Path, registry_dir: Path, metrics: DraMetrics, log: Log
    ) -> None:
        self._preparer = preparer
        self._dra_socket = plugin_dir / DRA_SOCKET
        self._registration_socket = registry_dir / REGISTRATION_SOCKET
        self._metrics = metrics
        self._log = log
        self._stack = contextlib.ExitStack()
        self.registered = False

    def __enter__(self) -> KubeletPlugin:
        try:
            # The kubelet calls as soon as it sees the registration: what it will call comes first.
            prepare = {"NodePrepareResources": self.prepare, "NodeUnprepareResources": self.unprepare}
            dra = _handlers(messages.DRA_PACKAGE, messages.DRA_SERVICE, prepare)
            self._stack.enter_context(_served(self._dra_socket, dra))
            register = {"GetInfo": self.info, "NotifyRegistrationStatus": self.status}
            registration = _handlers(messages.REGISTRATION_PACKAGE, messages.REGISTRATION_SERVICE, register)
            self._stack.enter_context(_served(self._registration_socket, registration))
        except BaseException:
            self._stack.close()
            raise
        self._log.info("plugin_served", endpoint=str(self._dra_socket), registration=str(self._registration_socket))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def info(self, _request: Any) -> Any:
        """What the kubelet wants to know of a plugin."""
        return messages.PluginInfo(
            type=messages.DRA_PLUGIN_TYPE,
            name=naming.DRIVER,
            endpoint=str(self._dra_socket),
            supported_versions=[messages.DRA_SUPPORTED],
        )

    def status(self, request: Any) -> Any:
        """Whether the kubelet took it."""
        self.registered = bool(request.plugin_registered)
        self._metrics.registered(value=self.registered)
        if self.registered:
            self._log.info("registered_with_kubelet")
        else:
            self._metrics.failed("registration")
            self._log.error("not_registered_with_kubelet", reason=str(request.error))
        return messages.RegistrationStatusResponse()

    def prepare(self, request: Any) -> Any:
        """NodePrepareResources."""
        answer = messages.PrepareResponse()
        for uid, done in self._preparer.prepare(_refs(request)).items():
            entry = answer.claims[uid]
            if isinstance(done, str):
                entry.error = done
                continue
            for number, grant in enumerate(done.grants):
                device = entry.devices.add(
                    request_names=[grant.request], pool_name=grant.pool, device_name=grant.device
                )
                if grant.share_id is not None:
                    device.share_id = grant.share_id
                if number == 0:  # one CDI device tells all of the claim's cards
                    device.cdi_device_ids.append(done.cdi_id)
        return answer

    def unprepare(self, request: Any) -> Any:
        """NodeUnprepareResources."""
        answer = messages.UnprepareResponse()
        for uid, error in self._preparer.unprepare(_refs(request)).items():
            answer.claims[uid].error = error
        return answer


def _refs(request: Any) -> list[ClaimRef]:
    return [ClaimRef(claim.namespace, claim.name, claim.uid) for claim in request.claims]


def _handlers(package: str, service: str, methods: Mapping[str, Handler]) -> grpc.GenericRpcHandler:
    inputs = {"GetInfo": "InfoRequest", "NotifyRegistrationStatus": "RegistrationStatus"}

    def handler(method: str, act: Handler) -> grpc.RpcMethodHandler:
        request = messages.message_class(package, inputs.get(method, f"{method}Request"))
        return grpc.unary_unary_rpc_method_handler(
            lambda asked, _context: act(asked),
            request_deserializer=request.FromString,  # type: ignore[attr-defined]
            response_serializer=lambda answer: answer.SerializeToString(),
        )

    return grpc.method_handlers_generic_handler(service, {name: handler(name, act) for name, act in methods.items()})


@contextlib.contextmanager
def _served(path: Path, handler: grpc.GenericRpcHandler) -> Iterator[None]:
    if len(str(path).encode()) > _LONGEST_PATH_BYTES:
        raise InputError(f"{path}: a socket's path has at most {_LONGEST_PATH_BYTES} bytes; give a shorter folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_dead(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a folder that can be written") from error
    server = grpc.server(ThreadPoolExecutor(_THREADS_COUNT, thread_name_prefix=path.stem))
    server.add_generic_rpc_handlers((handler,))
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be listened on ({error}); give another folder") from error
    server.start()
    try:
        yield
    finally:
        server.stop(_GRACE_SECONDS).wait()
        path.unlink(missing_ok=True)


def _remove_dead(path: Path) -> None:
    """The socket of an agent that was killed; the plugin folder's lock says that none lives."""
    if path.exists():
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
            probe.connect(str(path))
        path.unlink()
