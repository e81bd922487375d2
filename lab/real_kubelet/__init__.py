"""A real kubelet with real containers on this very machine, joined to a lab.

Everything else in the lab simulates containers. Here containerd and runc run them, so memory is
attributed through cgroups that a kubelet made, and a recycled container really ends. That takes root
and a machine without a kubelet of its own; what it changes on the machine is undone at the end.
"""

from __future__ import annotations

from lab.real_kubelet.driver import DriverOfProcesses
from lab.real_kubelet.node import NODE_NAME, RealNode, joined
from lab.real_kubelet.preconditions import why_not

__all__ = ["NODE_NAME", "DriverOfProcesses", "RealNode", "joined", "why_not"]
