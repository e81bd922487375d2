"""What the documents state, held against the code: paths, commands, numbers, exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml

from helpers.apps.cli.__main__ import COMMANDS, cli
from helpers.apps.exporter.__main__ import parser as exporter_parser
from helpers.domain.errors import ExitCode
from helpers.domain.ledger import build_ledger
from helpers.rendering.estate_file import load_estate

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTEXT.md", *ROOT.glob("docs/**/*.md")])
ADRS = sorted(ROOT.glob("docs/adr/*.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    named = re.findall(r"`((?:helpers|stacks|lab|tests|manifests|estates|bench|docs)/[^`\s<>]*)`", text)
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    missing = [name for name in named if not any(ROOT.glob(name.rstrip("/")))]
    missing += [target for target in linked if not (document.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("line", re.findall(r"`(gpumem [a-z][^`]*)`", README))
def test_every_command_in_the_readme_exists(line: str) -> None:
    require_command([word for word in re.split(r"[\s,]+", re.sub(r"\[|\]", "", line)) if word != "gpumem"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_in_a_document_has_its_command_and_options(document: Path) -> None:
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", document.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").replace("$(", "\n").replace(")", " ").splitlines():
            words = re.split(r"\s(?:\||>|&&|--)(?:\s|$)", line.strip().partition(" #")[0])[0].split()
            if words[:1] == ["gpumem"]:
                require_command([word.partition("=")[0] for word in words[1:]])


def require_command(words: list[str]) -> None:
    """Fails unless the command line has this command, and the command these options."""
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        word = rest.pop(0)
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"gpumem has no {word} ({words})"
        command = found
    if command.context_settings.get("ignore_unknown_options"):  # the exporter's flags are its own
        options = {option for action in exporter_parser()._actions for option in action.option_strings}
    else:
        context = click.Context(command)
        options = {option for parameter in command.get_params(context) for option in parameter.opts}
        options |= {option for parameter in command.params for option in parameter.secondary_opts}
    assert {word for word in rest if re.match(r"--?[a-z]", word)} <= options, words


def test_every_command_of_the_command_line_is_in_the_readme() -> None:
    internal = {"replicas", "completion"}  # run by Terraform's steps; shown in the text below the table
    for name in set(COMMANDS) - internal:
        assert f"gpumem {name}" in README, name


def test_every_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"`make ([a-z-]+)`", document.read_text()))
        assert named <= targets, document


def test_the_exit_code_page_lists_exactly_the_codes() -> None:
    page = (ROOT / "docs/reference/exit-codes.md").read_text()
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == sorted(map(int, ExitCode))


def test_the_readmes_numbers_are_the_examples() -> None:
    estate, _ = load_estate(ROOT / "gpumem.yaml")
    (node,) = build_ledger(estate).nodes
    assert f"hold {node.always_on_mib} of {node.advertised_mib} advertised MiB" in " ".join(README.split())
    assert len(node.always_on) == 5


def test_what_the_watchdog_guide_says_about_the_floor_is_the_examples() -> None:
    """The two floors' outcomes are `tests/unit/test_cli_watchdog.py`'s; here are the card's numbers."""
    guide = " ".join((ROOT / "docs/guides/watchdog.md").read_text().split())
    estate, _ = load_estate(ROOT / "gpumem.yaml")
    (node,), (gpu,) = build_ledger(estate).nodes, estate.nodes[0].gpus
    most_mib = node.slack_mib + gpu.reserve_mib
    assert f"leave {node.slack_mib} MiB, and up to the reserve's {gpu.reserve_mib} more: {most_mib} MiB" in guide
    assert f"a floor of {estate.watchdog.floor_mib} recycles nobody and one of 2560 ends it" in guide
    assert most_mib < 2560
    shipped = [load_estate(file)[0] for file in [ROOT / "gpumem.yaml", *(ROOT / "estates").glob("*.yaml")]]
    assert len(shipped) == 6
    assert all(one.watchdog.floor_mib < max(tenant.budget_mib for tenant in one.tenants) for one in shipped)


def test_every_adr_has_a_number_of_its_own() -> None:
    numbers = [path.name.partition("-")[0] for path in ADRS]
    assert len(set(numbers)) == len(numbers), numbers


@pytest.mark.parametrize("path", ADRS, ids=lambda path: path.stem)
def test_every_adr_has_the_short_form(path: Path) -> None:
    _, front, body = path.read_text().split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["status"] in ("accepted", "superseded")
    assert str(meta["date"]) >= "2026-11-22"
    headings = re.findall(r"^## (\w+)", body, re.MULTILINE)
    for heading in ("Context", "Options", "Decision", "Confirmation"):
        assert heading in headings, heading


def test_the_words_that_the_glossary_avoids_are_not_public_names() -> None:
    """CONTEXT.md: a bare total, size, timeout or percent has no unit; `slice` is MIG's."""
    forbidden = re.compile(r"(?:^|_)(?:total|size|percent|slice)$")
    schema = (ROOT / "docs/reference/estate.md").read_text()
    keys = {key.rpartition(".")[2] for key in re.findall(r"^\| `([^`]+)`", schema, re.MULTILINE)}
    assert keys, "the generated key table is not empty"
    assert [key for key in keys if forbidden.search(key)] == []


def test_every_fault_of_the_field_is_pinned_by_a_test_that_names_it() -> None:
    faults = set(re.findall(r"^(\d+)\. ", (ROOT / "docs/field-faults.md").read_text(), re.MULTILINE))
    named: set[str] = set()
    for file in (ROOT / "tests").rglob("*"):
        if file.suffix in (".py", ".yaml") and file != Path(__file__):
            for numbers in re.findall(r"Field faults? ([\d, and]+)", file.read_text()):
                named |= set(re.findall(r"\d+", numbers))
    assert faults == {str(number) for number in range(1, 15)}
    assert faults - named == set()
