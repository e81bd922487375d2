"""Numbers change, every other byte stays; what cannot be changed alone is refused."""

from __future__ import annotations

import errno
import re
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.domain.budget_change import BudgetChange, ReserveChange
from helpers.domain.errors import CheckFailed, EstateInvalid, InputError
from helpers.rendering import estate_edit
from helpers.rendering.estate_edit import edit_file, edit_text
from helpers.rendering.estate_file import parse_estate

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "gpumem.yaml").read_text(encoding="utf-8")
LOWER = BudgetChange("llama-swap", 5000, 4700)
RESERVE = ReserveChange("t4-node", "Tesla T4", 1360, 1370)


def test_exactly_the_named_numbers_change() -> None:
    edited = edit_text(TEXT, "gpumem.yaml", [LOWER, RESERVE])
    differing = [(a, b) for a, b in zip(TEXT.split("\n"), edited.split("\n"), strict=True) if a != b]
    assert differing == [
        (old, old.replace("1360", "1370", 1)) for old in TEXT.split("\n") if old.strip().startswith("reserve_mib: 1360")
    ] + [("    budget_mib: 5000", "    budget_mib: 4700")]
    estate, _ = parse_estate(edited, "gpumem.yaml")
    assert [tenant.budget_mib for tenant in estate.tenants] == [3000, 4700, 2000, 1800, 1500]


@settings(max_examples=8, deadline=None)
@given(st.dictionaries(st.sampled_from(("immich-ml", "llama-swap", "frigate", "portal-stt")), st.integers(1, 1500)))
def test_any_budgets_change_and_change_back_byte_for_byte(budgets: dict[str, int]) -> None:
    estate, _ = parse_estate(TEXT, "gpumem.yaml")
    before = {tenant.name: tenant.budget_mib for tenant in estate.tenants}
    there = edit_text(TEXT, "f", [BudgetChange(name, before[name], mib) for name, mib in budgets.items()])
    back = edit_text(there, "f", [BudgetChange(name, mib, before[name]) for name, mib in budgets.items()])
    assert back == TEXT


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("budget_mib: 5000", "budget_mib: 4700"),
        ("budget_mib:   5000   # kept as it is", "budget_mib:   4700   # kept as it is"),
        ('"budget_mib": 5000', '"budget_mib": 4700'),
        ("'budget_mib' : 5000#no comment", None),
        ("budget_mib: &b 5000", None),
        ("budget_mib: !!int 5000", None),
        ("budget_mib:\n      5000", "budget_mib:\n      4700"),
        ("budget_mib: +5000", None),
    ],
)
def test_spellings_of_the_number(written: str, expected: str | None) -> None:
    text = TEXT.replace("budget_mib: 5000", written, 1)
    if expected is None:
        with pytest.raises(InputError):
            edit_text(text, "f", [LOWER])
    else:
        assert edit_text(text, "f", [LOWER]) == text.replace(written, expected, 1)


def test_flow_style_on_one_line_is_edited_in_place() -> None:
    text = re.sub(
        r"      - model: Tesla T4\n.*?reserve_mib: 1360[^\n]*\n",
        "      - {model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360} # T4\n",
        TEXT,
        flags=re.S,
    )
    assert edit_text(text, "f", [RESERVE]) == text.replace("reserve_mib: 1360}", "reserve_mib: 1370}")


def test_windows_line_ends_a_byte_order_mark_and_odd_breaks_stay(tmp_path: Path) -> None:
    """U+0085 and U+2028 are line breaks to YAML 1.1's reader; a form feed is one to Python's splitlines only."""
    text = "\ufeff" + TEXT.replace("version: 1", "version: 1 # one\x85# two\u2028# three", 1).replace("\n", "\r\n")
    file = tmp_path / "gpumem.yaml"
    file.write_bytes(text.encode())
    assert edit_file(file, [LOWER])
    assert file.read_bytes() == text.replace("budget_mib: 5000", "budget_mib: 4700").encode()


def test_a_number_on_the_first_line_behind_a_byte_order_mark_is_found() -> None:
    gpus = "gpus: [{model: T4, count: 1, physical_mib: 9000, reserve_mib: 5}]"
    head = "\ufeffnodes: [{name: t4-node, selector: {a: b}, " + gpus + "}]\n"
    text = head + TEXT.replace("nodes: # REQUIRED", "nodes_: # REQUIRED", 1)
    with pytest.raises(EstateInvalid) as raised:
        edit_text(text, "f", [ReserveChange("t4-node", "T4", 5, 7)])
    assert [problem.path for problem in raised.value.problems if problem.rule == "unknown key"] == ["nodes_"]


def test_a_file_that_is_no_yaml_is_refused_as_validate_does() -> None:
    with pytest.raises(EstateInvalid, match="the file is YAML"):
        edit_text("tenants: [", "f", [LOWER])


def test_an_alias_that_would_carry_the_number_elsewhere_is_refused() -> None:
    first = TEXT.replace("    budget_mib: 2000", "    budget_mib: &two 2000", 1)
    text = first.replace("    budget_mib: 1800", "    budget_mib: *two", 1)
    with pytest.raises(InputError, match="not written as a plain number"):
        edit_text(text, "f", [BudgetChange("immich-server", 2000, 1000)])


def test_what_is_not_in_the_file_is_named() -> None:
    with pytest.raises(InputError, match="f: tenants has no nobody"):
        edit_text(TEXT, "f", [BudgetChange("nobody", 1, 2)])
    with pytest.raises(InputError, match="f: nodes has no t4-node with A100"):
        edit_text(TEXT, "f", [ReserveChange("t4-node", "A100", 1, 2)])


def test_a_result_that_does_not_hold_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "gpumem.yaml"
    file.write_text(TEXT, encoding="utf-8")
    with pytest.raises(EstateInvalid, match="always-on budgets are"):
        edit_file(file, [BudgetChange("llama-swap", 5000, 9000)])
    assert file.read_text(encoding="utf-8") == TEXT
    assert [path.name for path in tmp_path.iterdir()] == ["gpumem.yaml"]


def test_no_change_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "gpumem.yaml"
    file.write_text(TEXT, encoding="utf-8")
    before = file.stat().st_mtime_ns
    assert not edit_file(file, [BudgetChange("llama-swap", 5000, 5000)])
    assert file.stat().st_mtime_ns == before


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "gpumem.yaml"
    real.write_text(TEXT, encoding="utf-8")
    real.chmod(0o640)
    link.symlink_to(real)
    assert edit_file(link, [LOWER])
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "budget_mib: 4700" in real.read_text(encoding="utf-8")


def test_a_change_by_somebody_else_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gpumem.yaml"
    file.write_text(TEXT, encoding="utf-8")

    def slow(text: str, name: str, changes: list[BudgetChange]) -> str:
        edited = edit_text(text, name, changes)
        file.write_text(TEXT + "# theirs\n", encoding="utf-8")
        return edited

    monkeypatch.setattr(estate_edit, "edit_text", slow)
    with pytest.raises(CheckFailed, match="changed by somebody else"):
        edit_file(file, [LOWER])
    assert file.read_text(encoding="utf-8").endswith("# theirs\n")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        edit_file(tmp_path / "none.yaml", [LOWER])


def test_a_folder_that_cannot_be_written_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gpumem.yaml"
    file.write_text(TEXT, encoding="utf-8")

    def read_only(**_named: object) -> tuple[int, str]:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    with pytest.raises(InputError, match=r"cannot be written: .*Read-only.* The file is as it was\."):
        edit_file(file, [LOWER])
    assert file.read_text(encoding="utf-8") == TEXT
