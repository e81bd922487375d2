"""The pods' network: a bridge of the lab's own, and the address at which pods find the API server.

The API server listens on loopback, where no pod reaches it, and no kube-proxy runs. The bridge
therefore carries the first address of the service range (which every pod has in its environment and
the API server in its certificate), and a forwarder passes connections of pods, and of nobody else, on.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import socket
import struct
import subprocess
from pathlib import Path

from lab.control_plane import SERVICE_RANGE
from lab.errors import LabError

BRIDGE = "gpumem-lab0"
POD_RANGE = "10.244.77.0/24"
GATEWAY = str(ipaddress.ip_network(POD_RANGE)[1])
SERVICE_ADDRESS = str(ipaddress.ip_network(SERVICE_RANGE)[1])
_HARDWARE_ADDRESS = "02:67:70:75:00:01"  # locally administered
_COMMAND_BOUND_SECONDS = 20.0
_SET_FLAGS, _DELETE_BRIDGE = 0x8914, 0x89A1  # SIOCSIFFLAGS, SIOCBRDELBR (linux/sockios.h)


def make_bridge(busybox: Path) -> None:
    """The bridge with both addresses.

    Raises:
        LabError: This machine's network may not be changed; nothing of it stays then.
    """
    prefix = POD_RANGE.rpartition("/")[2]
    steps = [
        f"link add {BRIDGE} type bridge",
        # Its own, or it takes the lowest of its ports': then, with each pod that comes or goes, all the
        # others would for some seconds send to an address that nobody has any more.
        f"link set {BRIDGE} address {_HARDWARE_ADDRESS}",
        f"addr add {GATEWAY}/{prefix} dev {BRIDGE}",
        f"addr add {SERVICE_ADDRESS}/32 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ]
    for step in steps:
        command = [str(busybox), "ip", *step.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_BOUND_SECONDS)
        if done.returncode != 0:
            raise LabError(f"`ip {step}` failed (exit {done.returncode}): {(done.stdout + done.stderr).strip()}")


def remove_bridge() -> None:
    """Takes the bridge away with its addresses; nothing happens where there is none."""
    if not Path("/sys/class/net", BRIDGE).exists():
        return
    name = BRIDGE.encode()
    # By ioctl: after a crash no program that could do it needs to be there.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        fcntl.ioctl(door, _SET_FLAGS, struct.pack("16sh22x", name, 0))  # struct ifreq; a bridge must be down first
        fcntl.ioctl(door, _DELETE_BRIDGE, struct.pack("16s", name))


def write_cni(folder: Path, state: Path) -> None:
    """The pods' network as containerd's plugins read it."""
    address = {"type": "host-local", "dataDir": str(state), "ranges": [[{"subnet": POD_RANGE, "gateway": GATEWAY}]]}
    # Not isGateway: with it the plugin would switch forwarding on for the whole machine.
    bridge = {"type": "bridge", "bridge": BRIDGE, "ipam": address | {"routes": [{"dst": "0.0.0.0/0"}]}}
    folder.mkdir()
    conflist = {"cniVersion": "0.4.0", "name": "gpumem-lab", "plugins": [bridge]}
    (folder / "10-gpumem-lab.conflist").write_text(json.dumps(conflist))
