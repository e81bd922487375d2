"""`gpumem plan-check`: rules on Terraform plans, and the same rules for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.output import FORMATS, coloured, emit_data, table
from helpers.domain.errors import ExitCode
from helpers.domain.plan_policy.check import check_plans
from helpers.domain.plan_policy.findings import Finding, PolicyReport
from helpers.domain.plan_policy.rules import RULES
from helpers.rendering.plan_file import load_plan
from helpers.rendering.plan_policy_export import EXPORTS, export_rules

ANNOTATIONS = "github"


@click.command("plan-check")
@click.argument("plan_files", metavar="PLAN.json...", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--allow-delete", "allow_delete", multiple=True, metavar="ADDRESS", help="This may go or be made anew; repeatable."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice([*FORMATS, ANNOTATIONS]),
    default="table",
    show_default=True,
    help="How to print it; github is one annotation a finding.",
)
@click.option("--export", "tool", type=click.Choice(sorted(EXPORTS)), help="Write the rules for this tool instead.")
@click.option("--output-dir", type=click.Path(path_type=Path, file_okay=False), help="Where --export writes to.")
def plan_check(
    plan_files: tuple[Path, ...], allow_delete: tuple[str, ...], output: str, tool: str | None, output_dir: Path | None
) -> int:
    """Check Terraform plans, given in the order of their apply, as `terraform show -json` writes them."""
    if (tool is None) != (output_dir is None) or (tool is None) == (not plan_files):
        raise click.UsageError("give either PLAN.json files, or --export TOOL with --output-dir DIR")
    if tool is not None and output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        for name, text in export_rules(tool).items():
            (output_dir / name).write_text(text, encoding="utf-8")
            click.echo(output_dir / name)
        return int(ExitCode.OK)
    report = check_plans([load_plan(file) for file in plan_files], allow_delete)
    for address in report.unused_allowances:
        click.echo(f"--allow-delete {address}: no plan deletes it", err=True)
    if not emit_data(_data(report, plan_files), output):
        click.echo(_PRINTED[output](report))
    return int(ExitCode.OK if report.is_clean else ExitCode.CHECK_FAILED)


def _data(report: PolicyReport, plan_files: tuple[Path, ...]) -> dict[str, Any]:
    broken = {finding.rule_id for finding in report.findings}
    return {
        "plans": [str(file) for file in plan_files],
        "passed": report.is_clean,
        "rules": [{"id": rule.id, "passed": rule.id not in broken, "what": rule.what} for rule in RULES],
        "findings": [_row(finding) | {"repair": finding.rule.repair} for finding in report.findings],
        "unused_allowances": list(report.unused_allowances),
    }


def _row(finding: Finding) -> dict[str, str]:
    return {
        "plan": finding.plan,
        "rule": finding.rule_id,
        "address": finding.address,
        "place": finding.place,
        "value": finding.value,
    }


def _text(report: PolicyReport) -> str:
    if report.is_clean:
        return coloured(f"{len(RULES)} rules hold", "green")
    return "\n".join([*(finding.text() for finding in report.findings), _sum(report)])


def _markdown(report: PolicyReport) -> str:
    if report.is_clean:
        return f"**Plan checks**: {len(RULES)} rules hold."
    # A bar in a value would end the cell.
    rows = [{key: text.replace("|", "\\|") for key, text in _row(finding).items()} for finding in report.findings]
    rules = {finding.rule_id: finding.rule for finding in report.findings}.values()
    said = [f"- `{rule.id}`: {rule.what} {rule.why} {rule.repair}" for rule in rules]
    return "\n".join([f"**Plan checks**: {_sum(report)}", "", table(rows, "markdown"), "", *said])


def _annotations(report: PolicyReport) -> str:
    """GitHub's workflow commands: one error each, on the pull request as a whole (a plan has no line of its own)."""
    if report.is_clean:
        return f"::notice title=Plan checks::{len(RULES)} rules hold"
    lines = []
    for finding in report.findings:
        text = f"{finding.address} {finding.place}: {finding.value}\n{finding.rule.what} {finding.rule.repair}"
        lines.append(f"::error title={_escaped(finding.rule_id)}::{_escaped(text)}")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """As workflow commands want it: a line break would begin another command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _sum(report: PolicyReport) -> str:
    rules = {finding.rule_id for finding in report.findings}
    found, broken = len(report.findings), len(rules)
    return f"{found} {'finding' if found == 1 else 'findings'}, {broken} of {len(RULES)} rules broken"


_PRINTED = {"table": _text, "markdown": _markdown, ANNOTATIONS: _annotations}
