"""Removes the iptables chains that hollow kubelets make, once no kubelet of any lab needs them."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from lab.processes import marked

TABLES = ("filter", "nat", "mangle")
CHAINS = ("KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT")
FAMILIES = ("iptables", "ip6tables")
WAIT_FOR_LOCK_SECONDS = "5"


def remove_kubelet_chains() -> list[str]:
    """Removes the chains and the jumps to them; returns ``table/chain`` of each removed chain.

    Does nothing without root or iptables, while another lab is up, or where a real kubelet or
    kube-proxy runs: then the chains are, or may be, somebody else's.
    """
    if os.geteuid() != 0 or any(True for _ in marked()) or _real_kubelet_runs():
        return []
    removed = []
    for family in FAMILIES:
        program = shutil.which(family)
        if program is None:
            continue
        for table in TABLES:
            removed += [f"{family}/{table}/{chain}" for chain in _remove_from(program, table)]
    return removed


def _remove_from(program: str, table: str) -> list[str]:
    command = [program, "-w", WAIT_FOR_LOCK_SECONDS, "-t", table]
    listing = subprocess.run([*command, "-S"], capture_output=True, text=True)
    if listing.returncode != 0:  # no such table in this kernel
        return []
    rules = [shlex.split(line) for line in listing.stdout.splitlines()]
    ours = [chain for chain in CHAINS if ["-N", chain] in rules]
    for rule in rules:
        if rule[0] == "-A" and rule[1] not in ours and "-j" in rule and rule[-1] in ours:
            subprocess.run([*command, "-D", *rule[1:]], capture_output=True)
    for chain in ours:
        subprocess.run([*command, "-F", chain], capture_output=True)
    return [chain for chain in ours if subprocess.run([*command, "-X", chain], capture_output=True).returncode == 0]


def _real_kubelet_runs() -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # One that has ended and was not waited for yet still has its name, but no command line.
                named = (entry / "comm").read_text().strip() in {"kubelet", "kube-proxy"}
                if named and (entry / "cmdline").read_bytes():
                    return True
    return False
