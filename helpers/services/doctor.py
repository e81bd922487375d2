"""Doctor: reads a cluster in a few parallel lists and judges it. It never writes (ADR 0025)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from helpers.domain import names
from helpers.domain.admission.certificate_plan import Authority
from helpers.domain.capacity import capacity_settings
from helpers.domain.doctor.facts import DoctorFacts, Need, ObjectName, Thresholds
from helpers.domain.doctor.finding import Finding
from helpers.domain.doctor.objects import WATCHED
from helpers.domain.doctor.rights import settings_names
from helpers.domain.doctor.rules import diagnose
from helpers.domain.dra.offers import held_memory, offered_cards
from helpers.domain.errors import NotFound
from helpers.domain.estate.model import Estate
from helpers.domain.watchdog.rights import EXPORTER_SERVICE, WATCHDOG_LEASE
from helpers.ports.certificates import Certificates
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.watchdog_telemetry import Exporters, ExporterTarget, Scrape
from helpers.services.claims import CLAIMS, SLICES
from helpers.services.doctor_reading import (
    asking_claims,
    gpu_resources,
    name_of,
    needs_now,
    node_seen,
    pod_seen,
    ready_endpoints,
    scrape_problem,
    trust_of,
)
from helpers.services.watchdog_targets import SERVICE_LABEL, targets_of

_PARALLEL_COUNT = 8
# Read by name: their kinds hold what is nobody's business here.
_BY_NAME = ("ConfigMap", "Lease")
_NODES, _PODS, _SLICES, _JOBS = "nodes", "pods", "endpoint slices", "jobs"
_OFFERS, _CLAIMS = "resource slices", "resource claims"

Progress = Callable[[frozenset[str]], None]
Objects = list[dict[str, Any]]


@dataclass(frozen=True)
class Declared:
    """What should be: the estate, the file as printed commands name it, and every object that it renders."""

    estate: Estate
    estate_file: str
    rendered: tuple[Manifest, ...]


@dataclass(frozen=True)
class Question:
    """What is asked besides the API server.

    `exporters`: asked at `targets`, and (`discover`) at every address of their Service. `needs`: what
    somebody has measured already.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    exporters: Exporters | None = None
    targets: frozenset[ExporterTarget] = frozenset()
    discover: bool = False
    needs: tuple[Need, ...] = ()


def examine(
    cluster: Cluster,
    declared: Declared,
    clock: Clock,
    certificates: Certificates,
    question: Question | None = None,
    progress: Progress = lambda _: None,
) -> tuple[Finding, ...]:
    """Every known fault of `cluster` against what is declared.

    Args:
        cluster: Read, never written.
        declared: What should be.
        clock: Time.
        certificates: Reads the webhook's caBundle.
        question: What is asked besides.
        progress: Gets the names of what is still being read, each time something has been.

    Raises:
        QuantityError: a number in the cluster cannot be read.
        ClusterError: something may not be read, or the API does not answer: what is unknown is not well.
    """
    asked = question or Question()
    estate = declared.estate
    wanted = wanted_objects(declared)
    reader = _Reader(cluster, estate, wanted)
    read = _all_at_once(reader.reads(), progress)
    settings_pods = gpu_resources(estate)
    driver = reader.settings.claims_driver
    held = held_memory(read.get(_CLAIMS, ()), driver)
    claims = asking_claims(read.get(_CLAIMS, ()), held)
    pods = tuple(pod_seen(pod, estate, settings_pods, claims) for pod in read[_PODS])
    scrapes = _scrapes(asked, read[_SLICES], estate)
    objects = reader.objects(read)
    facts = DoctorFacts(
        estate=estate,
        estate_file=declared.estate_file,
        now_at=clock.now_at(),
        server_version=str(read["version"][0]["version"]),
        nodes=tuple(node_seen(node, reader.settings, estate) for node in read[_NODES]),
        pods=pods,
        wanted=wanted,
        objects=objects,
        jobs=tuple(read[_JOBS]),
        authorities=_authorities(objects, certificates),
        endpoints=ready_endpoints(read[_SLICES]),
        scrapes={one.target.node: scrape_problem(one) for one in scrapes},
        needs=(*asked.needs, *needs_now(scrapes, pods, estate)),
        cards=offered_cards(read.get(_OFFERS, ()), driver),
        held=held,
        thresholds=asked.thresholds,
    )
    return diagnose(facts)


def wanted_objects(declared: Declared) -> dict[ObjectName, Manifest]:
    """What is rendered, of the kinds that doctor compares; tenants' workloads have rules of their own."""
    estate = declared.estate
    tenants = {tenant.key for tenant in estate.tenants}
    settings = {("ConfigMap", estate.namespace, name) for name in settings_names(estate)}
    found = {}
    for manifest in declared.rendered:
        name = name_of(manifest)
        if name.kind not in WATCHED or (name.namespace, name.kind, name.name) in tenants:
            continue
        if name.kind == "ConfigMap" and name not in settings:
            continue
        found[name] = manifest
    return found


class _Reader:
    """The lists and gets that one examination needs."""

    def __init__(self, cluster: Cluster, estate: Estate, wanted: Mapping[ObjectName, Manifest]) -> None:
        self._cluster = cluster
        self._estate = estate
        self._wanted = wanted
        self.settings = capacity_settings(estate)

    def reads(self) -> dict[str, Callable[[], Objects]]:
        """By what a person calls it."""
        namespace = self._estate.namespace
        found: dict[str, Callable[[], Objects]] = {
            "version": lambda: [{"version": self._cluster.server_version()}],
            _NODES: lambda: self._cluster.list(ObjectRef("v1", "Node")),
            _PODS: lambda: self._cluster.list(ObjectRef("v1", "Pod")),
            _SLICES: self._slices,
            _JOBS: lambda: self._cluster.list(ObjectRef("batch/v1", "Job", namespace=namespace)),
        }
        if self._estate.claim_nodes():
            found |= {_OFFERS: _lister(self._cluster, SLICES), _CLAIMS: _lister(self._cluster, CLAIMS)}
        for api_version, kind in sorted(self._kinds()):
            scope = namespace if kind == "CronJob" else ""
            found[kind] = _lister(self._cluster, ObjectRef(api_version, kind, namespace=scope))
        for ref in self._by_name():
            found[str(ref)] = _getter(self._cluster, ref)
        return found

    def objects(self, read: Mapping[str, Objects]) -> dict[ObjectName, Manifest]:
        """What was read of what is wanted, of the tenants' workloads and of the Leases."""
        meant = set(self._wanted) | {
            ObjectName(tenant.workload.kind, tenant.namespace, tenant.workload.name) for tenant in self._estate.tenants
        }
        named = {ObjectName(ref.kind, ref.namespace, ref.name) for ref in self._by_name()}
        return {name_of(one): one for many in read.values() for one in many
                if "kind" in one and name_of(one) in meant | named}  # fmt: skip

    def _kinds(self) -> set[tuple[str, str]]:
        listed = ((str(one["apiVersion"]), name.kind) for name, one in self._wanted.items())
        wanted = {(api_version, kind) for api_version, kind in listed if kind not in _BY_NAME}
        return wanted | {("apps/v1", tenant.workload.kind) for tenant in self._estate.tenants}

    def _by_name(self) -> list[ObjectRef]:
        namespace = self._estate.namespace
        leases = [WATCHDOG_LEASE, names.CAPACITY_LEASE] if self._estate.capacity.watch else [WATCHDOG_LEASE]
        refs = [ObjectRef("v1", "ConfigMap", name, namespace) for name in settings_names(self._estate)]
        return refs + [ObjectRef("coordination.k8s.io/v1", "Lease", name, namespace) for name in leases]

    def _slices(self) -> Objects:
        services = f"{SERVICE_LABEL} in ({names.WEBHOOK_SERVICE},{EXPORTER_SERVICE})"
        return self._cluster.list(ObjectRef("discovery.k8s.io/v1", "EndpointSlice"), label_selector=services)


def _lister(cluster: Cluster, ref: ObjectRef) -> Callable[[], Objects]:
    def read() -> Objects:
        try:
            return cluster.list(ref)
        except NotFound:  # a kind that this server does not know: none of it is there
            return []

    return read


def _getter(cluster: Cluster, ref: ObjectRef) -> Callable[[], Objects]:
    def read() -> Objects:
        found = cluster.get(ref)
        return [] if found is None else [{"apiVersion": ref.api_version, "kind": ref.kind, **found}]

    return read


def _all_at_once(reads: Mapping[str, Callable[[], Objects]], progress: Progress) -> dict[str, Objects]:
    waiting = set(reads)
    progress(frozenset(waiting))
    with ThreadPoolExecutor(_PARALLEL_COUNT, thread_name_prefix="doctor") as pool:
        begun: dict[Future[Objects], str] = {pool.submit(read): name for name, read in reads.items()}
        found = {}
        for future in as_completed(begun):
            found[begun[future]] = future.result()
            waiting.discard(begun[future])
            progress(frozenset(waiting))
    return found


def _scrapes(asked: Question, slices: Iterable[Manifest], estate: Estate) -> tuple[Scrape, ...]:
    if asked.exporters is None:
        return ()
    targets = set(asked.targets)
    if asked.discover:
        for one in slices:
            metadata = one["metadata"]
            if metadata["namespace"] == estate.namespace and metadata["labels"][SERVICE_LABEL] == EXPORTER_SERVICE:
                targets |= set(targets_of(one))
    return asked.exporters.scrape(targets)


def _authorities(
    objects: Mapping[ObjectName, Manifest], certificates: Certificates
) -> dict[str, tuple[Authority, ...] | None]:
    configuration = objects.get(ObjectName("MutatingWebhookConfiguration", "", names.WEBHOOK_CONFIGURATION))
    if configuration is None:
        return {}
    return {name: _read(bundle, certificates) for name, bundle in trust_of(configuration).items()}


def _read(bundle: str, certificates: Certificates) -> tuple[Authority, ...] | None:
    if not bundle:
        return None
    try:
        return certificates.authorities(base64.b64decode(bundle).decode(errors="replace"))
    except binascii.Error:
        return ()
