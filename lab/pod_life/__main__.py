"""``python -m lab.pod_life --lab-dir DIR``: carries the pods of a lab's bare nodes until it is killed."""

from __future__ import annotations

import argparse
import logging
import resource
from pathlib import Path

from lab.api import Api, Credentials, Object
from lab.errors import LabInputError
from lab.nodes import BARE_LABEL
from lab.pod_life.endpoints import Endpoints
from lab.pod_life.heartbeats import Heartbeats
from lab.pod_life.kubelet import KubeletServer
from lab.pod_life.pods import PodLife
from lab.pod_life.watcher import Watcher
from lab.state import LabPaths, load


def main() -> None:
    """Wires the parts together and serves."""
    parser = argparse.ArgumentParser(prog="python -m lab.pod_life", description=__doc__)
    parser.add_argument("--lab-dir", type=Path, required=True, help="the lab's folder, .lab/<name>")
    lab_dir = parser.parse_args().lab_dir
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _allow_many_files()
    paths = LabPaths.of_dir(lab_dir)
    state = load(paths)
    if state is None:
        raise LabInputError(f"{lab_dir} holds no lab")
    pki = paths.pki
    api = Api(Credentials(state.ports["apiserver"], pki / "ca.crt", pki / "pod-life.crt", pki / "pod-life.key"))
    endpoints = Endpoints()
    life = PodLife(api, paths.dir, endpoints)
    heartbeats = Heartbeats(api)

    def node_changed(node: Object) -> None:
        heartbeats.node_changed(node)
        life.node_is_bare(node["metadata"]["name"])

    def node_deleted(node: Object) -> None:
        heartbeats.node_deleted(node)
        life.node_deleted(node["metadata"]["name"])

    endpoints.start()
    life.start()
    heartbeats.start()
    Watcher(api, "/api/v1/nodes", node_changed, node_deleted, labelSelector=f"{BARE_LABEL}=true").start()
    Watcher(api, "/api/v1/pods", life.pod_changed, life.pod_deleted, fieldSelector="spec.nodeName!=").start()
    KubeletServer(state.ports["pod-life"], pki, life).serve_forever()


def _allow_many_files() -> None:
    # A listening socket for each pod with a port: the usual soft limit of 1024 is soon reached.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
