"""A tenant's running pods, found in the cluster when they are asked something."""

from __future__ import annotations

from helpers.domain.lanes.settings import HookRule
from helpers.domain.pod_owner import workload_of
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.release_hook import HookTarget
from helpers.ports.tenant_pods import AskedPod


class ClusterTenantPods:
    """`ports.tenant_pods.TenantPods`: lists the pods of the tenant's namespace."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def of(self, rule: HookRule) -> tuple[AskedPod, ...]:
        """Those that run and are not on their way out; raises ClusterError."""
        pods = self._cluster.list(ObjectRef("v1", "Pod", namespace=rule.namespace))
        return tuple(_asked(pod, rule) for pod in pods if _is_meant(pod, rule))


def _is_meant(pod: Manifest, rule: HookRule) -> bool:
    metadata = pod["metadata"]
    return (
        workload_of(metadata) == (rule.kind, rule.workload)
        and (pod.get("status") or {}).get("phase") == "Running"
        and not metadata.get("deletionTimestamp")
    )


def _asked(pod: Manifest, rule: HookRule) -> AskedPod:
    address = str((pod.get("status") or {}).get("podIP") or "")
    return AskedPod(HookTarget(rule.namespace, str(pod["metadata"]["name"]), rule.container, address), pod)
