"""`make demo`: the whole main job on this machine, in order, with every step named.

The embedded cluster comes up, the example estate is applied (nvidia, then consumers), and a sixth
tenant is declared that does not fit. Before that a tenant grows past its budget: the alert fires, dry
run says what it would do, and the armed watchdog recycles exactly that tenant.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from helpers.adapters.kubernetes_ import connect
from helpers.domain.capacity import capacity_settings
from helpers.domain.errors import GpumemError
from helpers.domain.estate.model import Estate
from helpers.domain.names import CAPACITY_SERVICE_ACCOUNT
from helpers.rendering.estate_file import load_estate
from helpers.services.live import tenant_states
from lab import cluster
from lab.demo_memory import run_act
from lab.errors import LabError
from lab.estate_nodes import nodes_of_estate
from lab.foreign import create_foreign_workloads
from lab.standins.install import choose_providers
from lab.terraform_run import PROJECT, TerraformRun, find_terraform

SIXTH_TENANT = """
  # The demo's sixth tenant: it does not fit, waits, and disturbs nobody.
  - name: whisper
    namespace: whisper
    workload: {kind: Deployment, name: whisper, container: whisper}
    node: t4-node
    apply: create
    budget_mib: 1000
    elastic: true
    class: batch
    pod:
      containers:
        - name: whisper
          image: registry.example.com/whisper:1.0.0
"""
SETTLE_BOUND_SECONDS = 60.0


class Steps:
    """Numbered steps with elapsed seconds on standard error."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, line: str) -> None:
        """Say what begins now."""
        elapsed_seconds = time.monotonic() - self._started
        sys.stderr.write(f"{elapsed_seconds:6.1f}s  {line}\n")
        sys.stderr.flush()


def main() -> int:
    """Run `up` or `down`."""
    parser = argparse.ArgumentParser(prog="python -m lab.demo")
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("--lab", default="default", help="the lab's name")
    parser.add_argument("--kubeconfig", type=Path, help="use this cluster instead of the embedded one")
    arguments = parser.parse_args()
    try:
        if arguments.action == "down":
            return down(arguments.lab)
        return up(arguments.lab, arguments.kubeconfig)
    except GpumemError as error:
        sys.stderr.write(f"demo: {error}\n")
        return int(error.exit_code)


def down(name: str) -> int:
    """Remove what `up` made on this machine."""
    gone = cluster.down(name)
    shutil.rmtree(PROJECT / ".lab" / name, ignore_errors=True)
    sys.stdout.write(f"lab {name!r} is down and its folder is gone\n" if gone else f"no lab {name!r} was up\n")
    return 0


def up(name: str, kubeconfig: Path | None) -> int:
    """Bring everything up and leave it up."""
    step = Steps()
    terraform = find_terraform()
    if terraform is None:
        raise LabError("neither terraform nor tofu is on PATH; `make setup` says how to get one")
    example = PROJECT / "gpumem.yaml"
    estate, _ = load_estate(example)

    if kubeconfig is None:
        step("embedded cluster: etcd, API server, controllers, scheduler, one simulated T4 node")
        lab = cluster.up(name, nodes_of_estate(estate), progress=step)
        kubeconfig, work_dir = lab.kubeconfig, lab.dir / "terraform"
        created = create_foreign_workloads(lab.api(), estate)
        step(f"workloads of another team, as its chart would install them: {', '.join(created) or 'already there'}")
    else:
        lab = None
        work_dir = PROJECT / ".lab" / name / "terraform"
        step(f"using the cluster of {kubeconfig}; its nodes and foreign workloads must be there")

    choice = choose_providers(terraform, work_dir, Path(sys.executable))
    step(f"terraform providers: {choice.kind} ({choice.reason})")
    if lab is not None:
        lab.set_providers(choice.kind)
    # A copy, so that the state lies beside it and the sixth tenant can be added to it. Alerts wait for
    # half a minute in the example, and for two seconds here.
    estate_file = work_dir / "gpumem.yaml"
    estate_file.write_text(example.read_text().replace("low_for_seconds: 30", "low_for_seconds: 2"))
    estate, _ = load_estate(estate_file)
    run = TerraformRun(work_dir, estate_file, kubeconfig, choice, terraform)

    step("synthesise both stacks from gpumem.yaml")
    run.synth()
    step("apply nvidia: runtime class, time-slicing, capacity")
    run.init("nvidia")
    run.apply("nvidia")
    if lab is not None:
        start_capacity_watch(lab, estate, work_dir)
        step("capacity watch runs as a process of the lab, with its own ServiceAccount's rights")
    step("apply consumers: the gate, priority classes, five tenants")
    run.init("consumers")
    run.apply("consumers")

    wait_until_settled(kubeconfig, estate_file)
    if lab is not None:
        run_act(lab, estate, estate_file, lambda: arm(run), step, PROJECT / "build" / "demo")
        wait_until_settled(kubeconfig, estate_file)

    step("declare a sixth tenant of 1000 MiB; 700 are left, so it must wait")
    estate_file.write_text(estate_file.read_text() + SIXTH_TENANT)
    run.synth()
    changes = run.plan("consumers").changes()
    step(f"plan: {len(changes)} resources change: {', '.join(sorted(changes))}")
    run.apply("consumers")
    step("waiting until the tenants have settled")
    wait_until_settled(kubeconfig, estate_file)
    step("done")

    gpumem("report", "--live", "-f", str(estate_file), kubeconfig=kubeconfig)
    config, shown = os.path.relpath(kubeconfig, PROJECT), os.path.relpath(estate_file, PROJECT)
    sys.stdout.write(
        "\nThe cluster stays up. Three things to try:\n\n"
        f"  export PATH=$PWD/.venv/bin:$PATH KUBECONFIG=$PWD/{config} GPUMEM_ESTATE=$PWD/{shown}\n"
        "  gpumem release portal-stt     # its 1500 MiB are free, whisper starts\n"
        "  gpumem report --live          # who runs, who waits, and why\n"
        "  gpumem restore portal-stt     # now portal-stt waits: whisper holds the memory\n\n"
        "make demo-down removes all of it.\n"
    )
    return 0


def arm(run: TerraformRun) -> Estate:
    """Write `dry_run: false` into the estate, plan it, apply it."""
    text = run.estate_file.read_text()
    run.estate_file.write_text(text.replace("  dry_run: true #", "  dry_run: false #", 1))
    run.synth()
    run.apply("nvidia")
    return load_estate(run.estate_file)[0]


def start_capacity_watch(lab: cluster.Lab, estate: Estate, work_dir: Path) -> None:
    """Run the watch Deployment's entry point as a process: a hollow node's containers do nothing."""
    settings = work_dir / "capacity.json"
    settings.write_text(capacity_settings(estate).to_json())
    account = lab.service_account_kubeconfig(estate.namespace, CAPACITY_SERVICE_ACCOUNT)
    program = str(Path(sys.executable).parent / "gpumem")
    lab.stop("capacity-watch")
    arguments = ["capacity", "watch", "--settings", str(settings), "--metrics-address", "127.0.0.1:0"]
    arguments += ["--namespace", estate.namespace]
    lab.spawn("capacity-watch", [program, *arguments, "--kubeconfig", str(account)])


def wait_until_settled(kubeconfig: Path, estate_file: Path) -> None:
    """Until every always-on tenant runs and every elastic one runs or waits with a reason.

    Raises:
        LabError: that did not happen within a generous bound.
    """
    estate, _ = load_estate(estate_file, allow_overcommit=True)
    api = connect(kubeconfig, None)
    end_seconds = time.monotonic() + SETTLE_BOUND_SECONDS
    while True:
        states = tenant_states(api, estate)
        unsettled = [
            tenant.name
            for tenant in estate.tenants
            if states[tenant.name].running_count < estate.pods_count(tenant)
            and not (tenant.elastic and states[tenant.name].reason)
        ]
        if not unsettled:
            return
        if time.monotonic() > end_seconds:
            raise LabError(f"not settled after {SETTLE_BOUND_SECONDS:.0f} s: {', '.join(unsettled)}")
        time.sleep(0.3)


def gpumem(*arguments: str, kubeconfig: Path) -> None:
    """Run this environment's `gpumem` with its output shown."""
    program = str(Path(sys.executable).parent / "gpumem")
    subprocess.run([program, *arguments], env={**os.environ, "KUBECONFIG": str(kubeconfig)}, check=True)


if __name__ == "__main__":
    sys.exit(main())
