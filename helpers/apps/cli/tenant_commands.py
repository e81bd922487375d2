"""Commands on one tenant's workload: budget, replicas, release, restore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from pydantic import Field

from helpers.apps.cli.context import (
    cluster_options,
    connect_cluster,
    dry_run_option,
    estate_option,
    find_tenant,
    parse_settings,
    read_estate,
    step_input,
    step_option,
    tenant_argument,
)
from helpers.domain import names
from helpers.domain.budget import BudgetFields, WorkloadIdentity, budget_fields, workload_identity
from helpers.domain.demand_gates.rules import first_replicas, is_gated, release_note
from helpers.domain.errors import ExitCode, GpumemError, InputError
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.services.budget import set_budget, unset_budget
from helpers.services.outcome import Outcome
from helpers.services.release import NotReleased, set_replicas
from helpers.services.release import release as release_workload
from helpers.services.release import restore as restore_workload


class ReplicasStep(WorkloadIdentity):
    """The triggers of a `replicas-…` step."""

    replicas: int = Field(ge=0)
    label_prefix: str


def _say(outcome: Outcome) -> None:
    click.echo(outcome.message)


def _from_estate(estate_file: Path, tenant: str | None) -> tuple[Estate, Tenant]:
    if tenant is None:
        raise click.UsageError("name the TENANT (or give --step, as Terraform does)")
    estate = read_estate(estate_file)
    return estate, find_tenant(estate, tenant)


def _must_be_foreign(tenant: Tenant) -> None:
    where = {
        "create": "is in the workload that is rendered for it",
        "admission": "is put into each of its pods at their creation",
    }
    if tenant.apply in where:
        raise InputError(
            f"tenant {tenant.name}: apply is {tenant.apply}, so its budget {where[tenant.apply]}; "
            "`budget` is for apply: patch"
        )


@click.group()
def budget() -> None:
    """The budget's fields in a workload that somebody else owns."""


@budget.command("set")
@tenant_argument(required=False)
@estate_option
@cluster_options
@dry_run_option
@step_option
@click.option("--force", is_flag=True, help="Take the fields over from another owner with other numbers.")
def budget_set(
    tenant: str | None,
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    dry_run: bool,
    step: bool,
    force: bool,
) -> None:
    """Put the budget of TENANT into its workload; owns those fields and nothing else."""
    if step:
        fields = parse_settings(BudgetFields, step_input(), f"${names.ENV_STEP}")
    else:
        estate, found = _from_estate(estate_file, tenant)
        _must_be_foreign(found)
        fields = budget_fields(estate, found)
    _say(set_budget(connect_cluster(kubeconfig, context), fields, dry_run=dry_run, force=force))


@budget.command("unset")
@tenant_argument(required=False)
@estate_option
@cluster_options
@dry_run_option
@step_option
def budget_unset(
    tenant: str | None, estate_file: Path, kubeconfig: Path | None, context: str | None, dry_run: bool, step: bool
) -> None:
    """Give the budget's fields of TENANT back; the rest of the workload is not touched."""
    if step:
        identity = parse_settings(WorkloadIdentity, step_input(), f"${names.ENV_STEP}")
    else:
        _, found = _from_estate(estate_file, tenant)
        _must_be_foreign(found)
        identity = workload_identity(found)
    _say(unset_budget(connect_cluster(kubeconfig, context), identity, dry_run=dry_run))


@click.group()
def replicas() -> None:
    """The replicas of a workload that is rendered here."""


@replicas.command("set")
@tenant_argument(required=False)
@estate_option
@cluster_options
@dry_run_option
@step_option
def replicas_set(
    tenant: str | None, estate_file: Path, kubeconfig: Path | None, context: str | None, dry_run: bool, step: bool
) -> None:
    """Scale TENANT to the estate's replicas; a released tenant gets them when it is restored."""
    if step:
        wanted = parse_settings(ReplicasStep, step_input(), f"${names.ENV_STEP}")
    else:
        estate, found = _from_estate(estate_file, tenant)
        count = first_replicas(estate, found)
        wanted = ReplicasStep(**workload_identity(found).model_dump(), replicas=count, label_prefix=estate.label_prefix)
    cluster = connect_cluster(kubeconfig, context)
    _say(set_replicas(cluster, wanted, wanted.replicas, wanted.label_prefix, dry_run=dry_run))


def _several(command: Any) -> Any:
    """`[TENANT]...`, `--all-batch`."""
    command = click.option("--all-batch", is_flag=True, help="Every tenant of class batch.")(command)
    return tenant_argument(several=True)(command)


def _chosen(estate: Estate, tenants: tuple[str, ...], *, all_batch: bool) -> list[Tenant]:
    if bool(tenants) == all_batch:
        raise click.UsageError("name one or more TENANTs, or give --all-batch")
    if not all_batch:
        return [find_tenant(estate, name) for name in dict.fromkeys(tenants)]
    found = [tenant for tenant in estate.tenants if tenant.workload_class == "batch"]
    if not found:
        raise InputError("no tenant of the estate is of class batch")
    return found


def _each(tenants: list[Tenant], act: Callable[[Tenant], None]) -> int:
    """Acts on every tenant, whatever becomes of the others: in an emergency each MiB counts.

    One alone fails with its own error and exit code.
    """
    if len(tenants) == 1:
        act(tenants[0])
        return int(ExitCode.OK)
    failed = []
    for tenant in tenants:
        try:
            act(tenant)
        except GpumemError as error:
            click.echo(f"gpumem: {error}", err=True)
            failed.append(tenant.name)
    if failed:
        click.echo(f"{len(failed)} of {len(tenants)} failed: {', '.join(failed)}", err=True)
    return int(ExitCode.CHECK_FAILED if failed else ExitCode.OK)


@click.command()
@_several
@estate_option
@cluster_options
@dry_run_option
def release(
    tenants: tuple[str, ...],
    all_batch: bool,
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    dry_run: bool,
) -> int:
    """In an emergency: scale TENANTs to zero and remember their replicas on the workloads."""
    estate = read_estate(estate_file)
    chosen = _chosen(estate, tenants, all_batch=all_batch)
    cluster = connect_cluster(kubeconfig, context)

    def act(found: Tenant) -> None:
        gated = is_gated(estate, found.name)
        _say(release_workload(cluster, workload_identity(found), estate.label_prefix, gated=gated, dry_run=dry_run))
        if note := release_note(estate, found.name):
            click.echo(note, err=True)

    return _each(chosen, act)


@click.command()
@_several
@estate_option
@cluster_options
@dry_run_option
def restore(
    tenants: tuple[str, ...],
    all_batch: bool,
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    dry_run: bool,
) -> int:
    """Bring released TENANTs back to the replicas they had; --all-batch leaves those alone that were not released."""
    estate = read_estate(estate_file)
    chosen = _chosen(estate, tenants, all_batch=all_batch)
    cluster = connect_cluster(kubeconfig, context)

    def act(found: Tenant) -> None:
        gated = is_gated(estate, found.name)
        try:
            _say(restore_workload(cluster, workload_identity(found), estate.label_prefix, gated=gated, dry_run=dry_run))
        except NotReleased:
            if not all_batch:
                raise
            click.echo(f"tenant {found.name}: was not released")

    return _each(chosen, act)
