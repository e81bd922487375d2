"""`ports.probes.Prober` at the pod's own address: no proxy, no redirect, no name."""

from __future__ import annotations

import http.client
import ipaddress
import socket

from helpers.domain.estate.health import HttpProbe, TcpProbe
from helpers.ports.probes import ProbedPod

_FIRST_BAD_STATUS = 400


class DirectProber:
    """Where pods can be reached: in the cluster, or on one of its machines."""

    def http(self, probe: HttpProbe, pod: ProbedPod, timeout_seconds: float) -> str:
        """A GET to address and port."""
        if problem := _no_address(pod):
            return problem
        connection = http.client.HTTPConnection(pod.address, probe.port, timeout=timeout_seconds)
        try:
            connection.request("GET", probe.path)
            return judged(probe, connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            return f"GET {probe.path} on port {probe.port}: {error or type(error).__name__}"
        finally:
            connection.close()

    def tcp(self, probe: TcpProbe, pod: ProbedPod, timeout_seconds: float) -> str:
        """A connection to address and port, closed at once."""
        if problem := _no_address(pod):
            return problem
        try:
            socket.create_connection((pod.address, probe.port), timeout_seconds).close()
        except OSError as error:
            return f"port {probe.port}: {error}"
        return ""


def judged(probe: HttpProbe, status: int) -> str:
    """What is wrong with that status."""
    wanted = f"{probe.status}" if probe.status is not None else f"below {_FIRST_BAD_STATUS}"
    well = status == probe.status if probe.status is not None else status < _FIRST_BAD_STATUS
    return "" if well else f"GET {probe.path} on port {probe.port}: status {status}, wanted {wanted}"


def _no_address(pod: ProbedPod) -> str:
    try:
        ipaddress.ip_address(pod.address)
    except ValueError:
        return f"the pod has no address yet ({pod.address!r})"
    return ""
