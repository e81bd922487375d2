"""Every name that two sides must agree on: labels, field managers, Leases, variables, namespaces.

The stack that sets a name and the helper that reads it import it from here, so they cannot differ.
"""

from __future__ import annotations

import re

DEFAULT_LABEL_PREFIX = "gpumem.io"

# On every object that is rendered or made here.
MANAGED_BY = {"app.kubernetes.io/managed-by": "gpumem"}

ENV_ESTATE = "GPUMEM_ESTATE"
# The JSON of one Terraform step's triggers; the step's helper reads nothing else.
ENV_STEP = "GPUMEM_STEP"

FIELD_MANAGER_CAPACITY = "gpumem-capacity"
FIELD_MANAGER_BUDGET = "gpumem-budget"
FIELD_MANAGER_RELEASE = "gpumem-release"
FIELD_MANAGER_REPLICAS = "gpumem-replicas"
FIELD_MANAGER_TERRAFORM = "gpumem-terraform"
# As these two call themselves when they apply.
FIELD_MANAGER_ARGOCD = "argocd-controller"
FIELD_MANAGER_FLUX = "kustomize-controller"

CAPACITY_SERVICE_ACCOUNT = "gpumem-capacity"
CAPACITY_CONFIG_MAP = "gpumem-capacity"
CAPACITY_CONFIG_KEY = "capacity.json"
CAPACITY_LEASE = "gpumem-capacity"

# What the capacity container reads besides the mounted document.
ENV_NAMESPACE = "GPUMEM_NAMESPACE"
CAPACITY_CONFIG_PATH = f"/etc/gpumem/{CAPACITY_CONFIG_KEY}"
CAPACITY_METRICS_PORT = 9410

# Accounts of the Jobs that run steps where Git delivers (ADR 0021); `capacity assert` runs as the capacity helper.
GATE_SERVICE_ACCOUNT = "gpumem-gate"
BUDGET_SERVICE_ACCOUNT = "gpumem-budget"
REPLICAS_SERVICE_ACCOUNT = "gpumem-replicas"

EXPORTER_SERVICE_ACCOUNT = "gpumem-exporter"
EXPORTER_PORT = 9836

WATCHDOG_CONFIG_MAP = "gpumem-watchdog"
WATCHDOG_CONFIG_PATH = "/etc/gpumem/watchdog.json"
WATCHDOG_METRICS_PORT = 9411

COORDINATOR_COMPONENT = "gpumem-coordinator"
COORDINATOR_CONFIG_MAP = "gpumem-coordinator"
COORDINATOR_CONFIG_PATH = "/etc/gpumem/coordinator.json"
COORDINATOR_PORT = 9413
LEASES_PORT = 9414
# The virtual resource that tenants' rights to leases are about; no such objects exist.
LEASE_GROUP = "gpumem.io"
LEASE_RESOURCE = "leases"
LEASE_VERBS = ("create", "get", "list", "update", "delete")
LEASE_TLS_PATH = "/etc/gpumem-leases-tls"
ENV_LEASES_URL = "GPUMEM_LEASES_URL"
MANAGER_COMPONENT = "gpumem-manager"
MANAGER_CONFIG_MAP = "gpumem-manager"
MANAGER_CONFIG_PATH = "/etc/gpumem/manager.json"
MANAGER_PORT = 8000
MANAGER_TLS_PATH = "/etc/gpumem-manager-tls"
ENV_MANAGER_URL = "GPUMEM_MANAGER_URL"
ENV_MANAGER_TOKEN = "GPUMEM_MANAGER_TOKEN"  # noqa: S105 - the variable's name
# Apart from the API: figures by project are for whoever watches the cluster, not for every caller.
MANAGER_METRICS_PORT = 9416
# A virtual resource: only access rules and reviews know it. Its objects are a project's jobs.
JOB_GROUP = "gpumem.io"
JOB_RESOURCE = "gpujobs"
JOB_VERBS = ("create", "get", "list", "delete")
# Holds v4, v5 and v6, each with one major of BullMQ's client in its node_modules.
ENV_BULLMQ_CLIENTS = "GPUMEM_BULLMQ_CLIENTS"
# The admission webhook. What runs is the injector; what the cluster sees of it is called gpu-webhook.
INJECTOR_COMPONENT = "gpumem-injector"
INJECTOR_SERVICE_ACCOUNT = "gpumem-injector"
INJECTOR_LEASE = "gpumem-injector"
INJECTOR_CONFIG_MAP = "gpumem-injector"
INJECTOR_CONFIG_PATH = "/etc/gpumem/admission.json"
INJECTOR_PORT = 8443
INJECTOR_METRICS_PORT = 9412
FIELD_MANAGER_INJECTOR = "gpumem-injector"
WEBHOOK_SERVICE = "gpu-webhook"
WEBHOOK_SECRET = "gpu-webhook-certificate"  # noqa: S105 - the Secret's name
WEBHOOK_CONFIGURATION = "gpu-directory-injector"

KEDA_PAUSED_ANNOTATION = "autoscaling.keda.sh/paused"
# Karpenter's own.
NODE_POOL_LABEL = "karpenter.sh/nodepool"
CAPACITY_TYPE_LABEL = "karpenter.sh/capacity-type"
# On every pod of a job: while it runs, Karpenter neither consolidates its machine away nor drains it for
# drift or age.
DO_NOT_DISRUPT = {"karpenter.sh/do-not-disrupt": "true"}
MIG_CONFIG_LABEL = "nvidia.com/mig.config"
# A project's queue inside its namespace (Kueue's LocalQueue), which a job names in the label.
LOCAL_QUEUE = "gpumem"
KUEUE_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
KUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
VOLCANO_QUEUE_ANNOTATION = "scheduling.volcano.sh/queue-name"

# The one container of a job's pods, and what it is told about itself.
JOB_CONTAINER = "main"
ENV_JOB_ID = "GPUMEM_JOB_ID"
ENV_JOB_ATTEMPT = "GPUMEM_JOB_ATTEMPT"
ENV_JOB_WORKERS = "GPUMEM_JOB_WORKERS"
ENV_JOB_CAPACITY = "GPUMEM_JOB_CAPACITY"
ENV_JOB_CHECKPOINT = "GPUMEM_JOB_CHECKPOINT"
ENV_JOB_CHECKPOINT_PATH = "GPUMEM_JOB_CHECKPOINT_PATH"

DEVICE_PLUGIN_CONFIG_LABEL = "nvidia.com/device-plugin.config"

DNS_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
DNS_SUBDOMAIN = rf"{DNS_LABEL}(?:\.{DNS_LABEL})*"
LABEL_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
QUALIFIED_NAME = rf"(?:{DNS_SUBDOMAIN}/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"


def is_dns_label(text: str) -> bool:
    """Whether `text` may name a namespace, a container or (for short names) any object."""
    return re.fullmatch(DNS_LABEL, text) is not None


def is_dns_subdomain(text: str) -> bool:
    """Whether `text` may name an object such as a Deployment or a node."""
    return len(text) <= 253 and re.fullmatch(DNS_SUBDOMAIN, text) is not None


def is_qualified_name(text: str) -> bool:
    """Whether `text` is a label or annotation key: `name` or `prefix/name`."""
    return re.fullmatch(QUALIFIED_NAME, text) is not None


def scaled_object_name(gate: str) -> str:
    """The ScaledObject of a demand gate that KEDA scales."""
    return f"gpumem-{gate}"


def is_pod_of(kind: str, workload: str, pod: str) -> bool:
    """Whether a pod of that name is the workload's, by the name that its controller gives it."""
    # pod-template-hash and the random tail use this alphabet (apimachinery util/rand).
    tails = {
        "Deployment": r"-[a-z0-9]{1,10}-[a-z0-9]{5}",
        "StatefulSet": r"-[0-9]+",
        "DaemonSet": r"-[a-z0-9]{5}",
    }
    return re.fullmatch(re.escape(workload) + tails.get(kind, ""), pod) is not None


def released_replicas_annotation(label_prefix: str) -> str:
    """The annotation in which a released workload's replicas are remembered."""
    return f"{label_prefix}/released-replicas"


def service_dns_name(service: str, namespace: str) -> str:
    """The name under which API servers ask for a Service."""
    return f"{service}.{namespace}.svc"


def project_label(label_prefix: str) -> str:
    """The label of every pod of a job, with its project; NetworkPolicies choose pods by it."""
    return f"{label_prefix}/project"


def project_queue(project: str) -> str:
    """A project's queue where queues belong to the cluster: Kueue's ClusterQueue, Volcano's Queue."""
    return f"gpumem-{project}"


def budget_annotation(label_prefix: str) -> str:
    """The annotation in which admission says which tenant's budget a pod was given."""
    return f"{label_prefix}/budget"


def framework_cap_annotation(label_prefix: str) -> str:
    """The annotation that says what a pod's framework was told its budget by, or why nothing was."""
    return f"{label_prefix}/framework-cap"


def label_selector(labels: dict[str, str]) -> str:
    """`{a: b, c: d}` as the API's `a=b,c=d`, in a stable order."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def job_label(label_prefix: str) -> str:
    """The label that names a GPU job, on its objects and its pods."""
    return f"{label_prefix}/job"


def job_annotation(label_prefix: str, what: str) -> str:
    """What a job's object says of itself: `attempt`, `avoids`, `capacity`, `checkpoint`, `job-name`, `submitted-by`."""
    return f"{label_prefix}/{what}"
