"""The lives of pods on bare nodes: start, readiness, end, restart, deletion."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from lab.api import STRATEGIC_PATCH, Api, Object
from lab.pod_life import behaviour as behaviours
from lab.pod_life import status
from lab.pod_life.behaviour import Behaviour, BehaviourError
from lab.pod_life.endpoints import EndpointError, Endpoints
from lab.pod_life.live import HookLog, LivePod, key_of, now_text, tcp_ports
from lab.pod_life.shard import Shard
from lab.usage import PodUsage, UsageStore

HOOKS_FILE = "hooks.jsonl"
SHARDS = 4
RESTART_SECONDS = 1.0
TERMINAL = {"Succeeded", "Failed"}
LOG = logging.getLogger(__name__)


class PodLife:
    """Carries all pods of all bare nodes of one lab."""

    def __init__(self, api: Api, lab_dir: Path, endpoints: Endpoints) -> None:
        self._usage = UsageStore(lab_dir)
        self._api = api
        self._endpoints = endpoints
        self._hooks = HookLog(lab_dir / HOOKS_FILE)
        self._shards = [Shard(f"pods {index}") for index in range(SHARDS)]
        self._live: dict[str, LivePod] = {}
        self._by_key: dict[str, LivePod] = {}
        # Pods are told of before their node is, and the other way round.
        self._routing = threading.Lock()
        self._bare: set[str] = set()
        self._elsewhere: dict[str, Object] = {}

    def start(self) -> None:
        """Starts the threads that do the work."""
        for shard in self._shards:
            shard.start()

    def find(self, namespace: str, name: str) -> LivePod | None:
        """The pod of that name, ended ones included, as long as the API server has it."""
        return self._by_key.get(f"{namespace}/{name}")

    def node_is_bare(self, name: str) -> None:
        """From now on the pods bound to this node are ours, those that are already there included."""
        with self._routing:
            self._bare.add(name)
            ours = [pod for pod in self._elsewhere.values() if pod["spec"]["nodeName"] == name]
            for pod in ours:
                del self._elsewhere[pod["metadata"]["uid"]]
        for pod in ours:
            self._route(pod)

    def node_deleted(self, name: str) -> None:
        """Pods that are bound to this node later are not ours; those that run stay until they are deleted."""
        with self._routing:
            self._bare.discard(name)

    def pod_changed(self, pod: Object) -> None:
        """A pod that is bound to a node is there or has changed."""
        with self._routing:
            if pod["spec"]["nodeName"] not in self._bare and pod["metadata"]["uid"] not in self._live:
                self._elsewhere[pod["metadata"]["uid"]] = pod
                return
        self._route(pod)

    def pod_deleted(self, pod: Object) -> None:
        """A pod is gone from the API server; what it used is free, wherever it ran."""
        with self._routing:
            self._elsewhere.pop(pod["metadata"]["uid"], None)
        self._shard(pod).put(lambda: self._forget(pod))

    def _shard(self, pod: Object) -> Shard:
        return self._shards[hash(pod["metadata"]["uid"]) % len(self._shards)]

    def _route(self, pod: Object) -> None:
        self._shard(pod).put(lambda: self._observe(pod))

    def _observe(self, pod: Object) -> None:
        live = self._live.get(pod["metadata"]["uid"])
        if live is None:
            live = self._begin(pod)
        elif pod["metadata"].get("annotations") != live.pod["metadata"].get("annotations"):
            self._change(live, pod)
        live.pod = pod
        if "deletionTimestamp" in pod["metadata"] and not live.deleting:
            live.deleting = True
            grace = pod["metadata"].get("deletionGracePeriodSeconds") or 0
            live.shard.later(min(live.behaviour.terminate_after_seconds, grace), lambda: self._terminate(live))

    def _begin(self, pod: Object) -> LivePod:
        live = LivePod(pod, Behaviour(), self._shard(pod), self._usage, self._hooks)
        self._live[live.uid] = self._by_key[live.key] = live
        before = pod.get("status", {})
        if before.get("phase") in TERMINAL or "deletionTimestamp" in pod["metadata"]:
            live.ended = True
            return live
        try:
            live.behaviour = behaviours.read(behaviours.told(pod))
            live.address = self._endpoints.open(live.uid, tcp_ports(pod), live, before.get("podIP"))
        except BehaviourError as error:
            self._refuse(live, "CreateContainerConfigError", str(error))
        except EndpointError as error:
            self._refuse(live, "CreateContainerError", str(error))
        else:
            # A pod that ran before this process was started again keeps its count.
            statuses = before.get("containerStatuses", [])
            live.restarts = max((one["restartCount"] for one in statuses), default=0)
            self._run(live)
        return live

    def _refuse(self, live: LivePod, reason: str, message: str) -> None:
        live.ended = True
        self._patch(live, status.refused(live.pod, reason, message, now_text()))

    def _run(self, live: LivePod) -> None:
        """Starts (or restarts) the containers."""
        live.started_at = now_text()
        live.ready = live.behaviour.ready_after_seconds == 0
        for line in live.behaviour.log.splitlines():
            live.say(line)
        if live.behaviour.used_mib:
            self._use(live)
        self._patch_running(live)
        generation = live.restarts
        if not live.ready:
            live.shard.later(live.behaviour.ready_after_seconds, lambda: self._become_ready(live, generation))
        if live.behaviour.exit_after_seconds is not None:
            live.shard.later(live.behaviour.exit_after_seconds, lambda: self._exit(live, generation))

    def _use(self, live: LivePod) -> None:
        self._usage.update({live.key: PodUsage(live.pod["spec"]["nodeName"], live.behaviour.used_mib)})

    def _become_ready(self, live: LivePod, generation: int) -> None:
        if not live.ended and live.restarts == generation:
            live.ready = True
            self._patch_running(live)

    def _exit(self, live: LivePod, generation: int) -> None:
        if live.ended or live.restarts != generation:
            return
        code = live.behaviour.exit_code
        how = status.Ended(code, live.started_at, now_text())
        live.ready = False
        self._usage.free(live.key)
        policy = live.pod["spec"].get("restartPolicy", "Always")
        if policy == "Always" or (policy == "OnFailure" and code != 0):
            live.restarts += 1
            live.last = how
            self._patch_running(live)  # not ready until it has been restarted
            restarted = live.restarts
            live.shard.later(RESTART_SECONDS, lambda: self._restart(live, restarted))
        else:
            self._end(live, how)

    def _restart(self, live: LivePod, generation: int) -> None:
        if not live.ended and live.restarts == generation:
            self._run(live)

    def _change(self, live: LivePod, pod: Object) -> None:
        """New annotations on a running pod: use and log change at once, times count from now."""
        if live.ended:
            return
        old = live.behaviour
        try:
            live.behaviour = behaviours.read(behaviours.told(pod))
        except BehaviourError as error:
            LOG.warning("%s keeps its behaviour: %s", live.key, error)
            live.say(f"lab: {error}")
            return
        if live.behaviour.used_mib != old.used_mib:
            self._use(live)
        if live.behaviour.log != old.log:
            for line in live.behaviour.log.splitlines():
                live.say(line)
        seconds = live.behaviour.exit_after_seconds
        if seconds is not None and seconds != old.exit_after_seconds:
            generation = live.restarts
            live.shard.later(seconds, lambda: self._exit(live, generation))

    def _terminate(self, live: LivePod) -> None:
        """The end of a deleted pod: containers end, memory is free, the object goes."""
        if self._live.get(live.uid) is not live:
            return
        if not live.ended and live.pod["metadata"].get("finalizers"):
            # Somebody waits to see how it ended (a Job counts its pods that way).
            self._end(live, status.Ended(status.KILLED_EXIT_CODE, live.started_at, now_text()))
        self._stop(live)
        live.shard.put(lambda: self._delete(live))  # behind the last status

    def _delete(self, live: LivePod) -> None:
        self._api.delete(live.path, {"gracePeriodSeconds": 0, "preconditions": {"uid": live.uid}})

    def _end(self, live: LivePod, how: status.Ended) -> None:
        self._stop(live)
        self._patch(live, status.ended(live.pod, how))

    def _stop(self, live: LivePod) -> None:
        live.ended = True
        live.ready = False
        self._endpoints.close(live.uid)
        self._usage.free(live.key)

    def _forget(self, pod: Object) -> None:
        live = self._live.pop(pod["metadata"]["uid"], None)
        if live is not None:
            live.ended = True
            self._endpoints.close(live.uid)
            if self._by_key.get(live.key) is live:
                del self._by_key[live.key]
        if key_of(pod) not in self._by_key:  # a successor of the same name may run already
            self._usage.free(key_of(pod))

    def _patch_running(self, live: LivePod) -> None:
        self._patch(
            live,
            status.running(
                live.pod,
                ip=live.address,
                at=live.started_at,
                ready=live.ready,
                restarts=live.restarts,
                last=live.last,
            ),
        )

    def _patch(self, live: LivePod, patch: Object) -> None:
        live.unsent = patch
        live.shard.put(lambda: self._send(live))

    def _send(self, live: LivePod) -> None:
        # A send that is tried again sends what is true by then, and nothing if that has been sent.
        if live.unsent is not None and self._live.get(live.uid) is live:
            self._api.patch(f"{live.path}/status", live.unsent, STRATEGIC_PATCH, fieldManager="lab-pod-life")
            live.unsent = None
