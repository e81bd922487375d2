"""`gpumem admission explain`: what admission would do to a pod, and by which rule; no cluster is asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import click

from helpers.apps.cli.context import read_estate
from helpers.apps.cli.output import coloured, emit_data, output_option
from helpers.domain import names
from helpers.domain.admission.decide import decide
from helpers.domain.admission.decision import Decision, PodRequest, PodSecurityLevel
from helpers.domain.admission.json_patch import json_patch
from helpers.domain.admission.settings import admission_settings, resolved_engine
from helpers.domain.errors import ExitCode, InputError
from helpers.rendering.pod_documents import PodDocument, pods_in


@click.group()
def admission() -> None:
    """Devices, budgets and framework caps at the creation of pods."""


@admission.command("explain")
@click.option(
    "-f",
    "--filename",
    "pod_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    required=True,
    help="A pod, or workloads that make some; - for standard input.",
)
@click.option(
    "--estate",
    "estate_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("gpumem.yaml"),
    envvar=names.ENV_ESTATE,
    show_default=True,
    help="The estate file.",
)
@click.option("-n", "--namespace", default="default", show_default=True, help="For manifests that name none.")
@click.option(
    "--pod-security",
    type=click.Choice(get_args(PodSecurityLevel)),
    default="privileged",
    show_default=True,
    help="What the namespace's label pod-security.kubernetes.io/enforce says.",
)
@output_option
@click.pass_context
def explain(
    ctx: click.Context,
    pod_file: Path,
    estate_file: Path,
    namespace: str,
    pod_security: PodSecurityLevel,
    output: str,
) -> None:
    """Print each rule that applies to a pod, and the patch. Exit code 1: the pod would be denied."""
    estate = read_estate(estate_file, option="--estate")
    if estate.admission is None:
        raise InputError(f"{estate_file} has no block admission, so nothing happens to pods. Add admission: {{}}.")
    settings = admission_settings(estate, estate.admission)
    documents = pods_in(_read(pod_file), str(pod_file), namespace)
    decisions = [(item, decide(item.pod, PodRequest(item.namespace, pod_security), settings)) for item in documents]
    rows = [_row(item, decision) for item, decision in decisions]
    if not emit_data({"engine": resolved_engine(estate, estate.admission), "pods": rows}, output):
        click.echo("\n\n".join(_text(row) for row in rows))
    if not all(decision.allowed for _, decision in decisions):
        ctx.exit(int(ExitCode.CHECK_FAILED))


def _read(path: Path) -> str:
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read: {reason}. Name a manifest with -f FILE.") from error


def _row(item: PodDocument, decision: Decision) -> dict[str, Any]:
    return {
        "source": item.source,
        "allowed": decision.allowed,
        "rules": [{"rule": one.rule, "text": one.text} for one in decision.applied],
        "denials": list(decision.denials),
        "warnings": list(decision.warnings),
        "patch": json_patch(item.pod, decision.pod),
    }


def _text(row: dict[str, Any]) -> str:
    verdict = coloured("allowed", "green") if row["allowed"] else coloured("denied", "red")
    lines = [f"{row['source']}: {verdict}"]
    if row["allowed"]:
        lines += [f"  {one['rule']}: {one['text']}" for one in row["rules"]]
    lines += [f"  denied: {text}" for text in row["denials"]]
    lines += [f"  {coloured('warning', 'yellow')}: {text}" for text in row["warnings"]]
    if row["patch"]:
        lines.append("  patch:")
        lines += [f"    {one['op']} {one['path']} {json.dumps(one.get('value', ''))}" for one in row["patch"]]
    elif row["allowed"]:
        lines.append("  nothing is changed")
    return "\n".join(lines)
