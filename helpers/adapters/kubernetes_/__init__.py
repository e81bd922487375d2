"""The Kubernetes API through the `kubernetes` client: plain mappings in and out, our errors."""

from helpers.adapters.kubernetes_.cluster import KubernetesCluster
from helpers.adapters.kubernetes_.configuration import connect

__all__ = ["KubernetesCluster", "connect"]
