"""A review of Terraform's plan: what stands is read back from the documents, and says what two estates would."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from helpers.apps.cli import __main__ as cli
from helpers.domain.errors import ExitCode, InputError
from helpers.domain.estate.model import Estate
from helpers.domain.review.build import review_change
from helpers.domain.review.model import ReviewResult
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import Rendered, RenderedObject
from helpers.rendering.render import render
from helpers.rendering.review import review_estates
from helpers.rendering.review_plan import renderings_of_plans

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "gpumem.yaml").read_text()
TALOS = (ROOT / "estates/talos-2x3090.yaml").read_text()
PORTAL = EXAMPLE.index("  - name: portal-stt")
FRIGATE = EXAMPLE.index("  - name: frigate"), EXAMPLE.index("  - name: immich-server")
IMMICH = EXAMPLE.index("  - name: immich-ml"), EXAMPLE.index("  - name: llama-swap")


@functools.cache
def estate(text: str) -> Estate:
    return parse_estate(text, "estate", allow_overcommit=True)[0]


@functools.cache
def rendered(text: str) -> Rendered:
    return render(estate(text))


def values(text: str, wave: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """`{address: (resource type, values)}`, as the stacks make them."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for item in rendered(text).wave(wave).ordered():
        if isinstance(item, RenderedObject):
            found[item.address] = ("kubectl_manifest", {"yaml_body": to_yaml(item.manifest), "force_new": False})
        else:
            found[item.address] = ("null_resource", {"triggers": dict(item.triggers)})
    return found


def plan(before: str, after: str, wave: int) -> dict[str, Any]:
    """`terraform show -json` of one stack, as far as it concerns us (format 1.2)."""
    old, new = values(before, wave), values(after, wave)
    changes = []
    for name in sorted({*old, *new}):
        kind = (new.get(name) or old[name])[0]
        change = {side: (one[name][1] if name in one else None) for side, one in (("before", old), ("after", new))}
        changes.append({"address": f"{kind}.{name}", "type": kind, "name": name, "change": change})
    return {"format_version": "1.2", "resource_changes": [*changes, {"type": "random_id", "name": "x", "change": {}}]}


def plans(folder: Path, before: str, after: str, waves: tuple[int, ...] = (0, 1)) -> list[Path]:
    paths = []
    for wave in waves:
        paths.append(folder / f"{wave}.json")
        paths[-1].write_text(json.dumps(plan(before, after, wave)))
    return paths


def by_plan(folder: Path, before: str, after: str, waves: tuple[int, ...] = (0, 1)) -> ReviewResult:
    return review_change(*renderings_of_plans(plans(folder, before, after, waves), ("after", estate(after))))


def by_files(before: str, after: str) -> ReviewResult:
    return review_estates(("before", estate(before)), ("after", estate(after)))


CHANGES = {
    "overflow of a foreign workload": (EXAMPLE, EXAMPLE.replace("budget_mib: 3000", "budget_mib: 6000")),
    "overflow of our own": (EXAMPLE, EXAMPLE.replace("budget_mib: 2000", "budget_mib: 2701")),
    "a smaller card": (EXAMPLE, EXAMPLE.replace("reserve_mib: 1360", "reserve_mib: 3360")),
    "a larger card": (EXAMPLE, EXAMPLE.replace("reserve_mib: 1360", "reserve_mib: 1000")),
    "fewer shares": (EXAMPLE, EXAMPLE.replace("replicas: 8", "replicas: 6")),
    "another resource": (EXAMPLE, EXAMPLE.replace("viktorbarzin.me/gpumem", "example.com/gpumem")),
    "another image": (EXAMPLE, EXAMPLE.replace("portal-stt:2.3.0", "portal-stt:2.4.0")),
    "more pods": (EXAMPLE, EXAMPLE.replace("budget_mib: 1500", "replicas: 2\n    budget_mib: 1500")),
    "a new tenant": (EXAMPLE[:PORTAL], EXAMPLE),
    "two cards": (TALOS, TALOS.replace("    budget_mib: 8000\n    elastic", "    budget_mib: 8001\n    elastic")),
    "nothing": (EXAMPLE, EXAMPLE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_plan_says_what_the_two_estates_say(change: str, tmp_path: Path) -> None:
    before, after = CHANGES[change]
    found, expected = by_plan(tmp_path, before, after), by_files(before, after)
    assert found.before == "Terraform's state"
    assert found.model_dump(exclude={"before"}) == expected.model_dump(exclude={"before"})
    assert found.empty == (change == "nothing")


@pytest.mark.parametrize("cut", [FRIGATE, IMMICH, (PORTAL, len(EXAMPLE))])
def test_a_tenant_that_goes_is_read_back_from_its_documents(cut: tuple[int, int], tmp_path: Path) -> None:
    after = EXAMPLE[: cut[0]] + EXAMPLE[cut[1] :]
    found, expected = by_plan(tmp_path, EXAMPLE, after), by_files(EXAMPLE, after)
    assert found.findings == expected.findings
    assert [node.before for node in found.nodes] == [node.before for node in expected.nodes]


def test_a_plan_of_one_stack_is_enough_for_what_it_changes(tmp_path: Path) -> None:
    before, after = CHANGES["overflow of a foreign workload"]
    assert by_plan(tmp_path, before, after, (1,)).findings == by_files(before, after).findings
    before, after = CHANGES["a smaller card"]
    kinds = {one.kind for one in by_plan(tmp_path, before, after, (0,)).findings}
    assert {"over_commit", "capacity_refused"} <= kinds


def test_a_plan_of_another_estate_is_refused(tmp_path: Path) -> None:
    before, after = CHANGES["overflow of a foreign workload"]
    with pytest.raises(InputError, match="budget-immich-ml is planned otherwise than the estate of -f"):
        renderings_of_plans(plans(tmp_path, before, after, (1,)), ("after", estate(before)))


def test_cards_of_several_models_cannot_be_told_from_one_number(tmp_path: Path) -> None:
    card = "      - {model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}\n"
    block = EXAMPLE[EXAMPLE.index("      - model: Tesla T4") : EXAMPLE.index("    sharing: #")]
    mixed = EXAMPLE.replace(block, card + card.replace("Tesla T4", "Tesla P4"))
    with pytest.raises(InputError, match="no plan says which of its cards had how much"):
        by_plan(tmp_path, mixed, mixed.replace("reserve_mib: 1360}", "reserve_mib: 1000}", 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PK\x03\x04", "no JSON. Make it by `terraform show -json"),
        ("{}", "is no plan of an estate's stack"),
        ('{"resource_changes": [{"type": "random_id"}]}', "is no plan of an estate's stack"),
        (
            '{"resource_changes": [{"type": "kubectl_manifest", "name": "x", "address": "x", "change": {"after": 1}}]}',
            "x holds no manifest after the change",
        ),
    ],
)
def test_what_is_no_plan_exits_2(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text(text)
    assert cli.run(["review", "--plan", str(tmp_path / "plan.json"), "-f", "gpumem.yaml"]) == ExitCode.BAD_INPUT
    assert message in capsys.readouterr().err


def test_the_command_takes_a_plan_a_stack_and_stops_as_with_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = CHANGES["overflow of a foreign workload"]
    (tmp_path / "estate.yaml").write_text(after)
    options = [option for path in plans(tmp_path, before, after) for option in ("--plan", str(path))]
    assert cli.run(["review", *options, "-f", str(tmp_path / "estate.yaml")]) == ExitCode.CHECK_FAILED
    assert "Terraform's state →" in capsys.readouterr().out
    assert cli.run(["review", *options, "--base", "main"]) == ExitCode.BAD_INPUT
    assert "give --base FILE|REF, or --plan FILE once a stack" in capsys.readouterr().err
