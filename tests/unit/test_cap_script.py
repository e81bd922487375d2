"""The wrappers, really run by dash with an nvidia-smi and a python3 that a test writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.domain.admission.caps import Cap, framework_cap
from helpers.domain.estate.framework import Framework

DASH = shutil.which("dash")
BUSYBOX = shutil.which("busybox")
SHELLS = [shell for shell in ([DASH] if DASH else [], [BUSYBOX, "sh"] if BUSYBOX else [], ["bash", "--posix"]) if shell]
SHOW = ["sh", "-c", 'echo "$LLAMA_ARG_FIT_TARGET|$OLLAMA_GPU_OVERHEAD"; printf "<%s>" "$@"', "shown"]

SGLANG = Framework(name="sglang", overhead_mib=600)
LLAMA = Framework(name="llama.cpp")
OLD_OLLAMA = Framework(name="ollama", version="0.24.0")


def cap(framework: Framework, budget_mib: int = 5000) -> Cap:
    return framework_cap(framework, budget_mib, 15360)


class Box:
    """A folder of programs that is the whole PATH, besides sh, printf and echo, which every image has."""

    def __init__(self, folder: Path, shell: Sequence[str]) -> None:
        self.folder, self.shell = folder, [str(shutil.which(shell[0])), *shell[1:]]
        (folder / "sh").symlink_to(str(DASH or shutil.which("sh")))

    def program(self, name: str, script: str) -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def smi(self, *rows: str, ends: int = 0) -> None:
        """An nvidia-smi that prints `rows` to the one question it is asked."""
        asked = "--query-gpu=memory.free --format=csv,noheader,nounits"
        lines = "".join(f"echo '{row}'\n" for row in rows)
        self.program("nvidia-smi", f'[ "$*" = "{asked}" ] || exit 9\n{lines}exit {ends}')

    def run(self, wrapped: Cap, command: Sequence[str] = SHOW, **env: str) -> subprocess.CompletedProcess[str]:
        words = [*self.shell, *wrapped.wrapper[1:], *command]
        return subprocess.run(words, env={"PATH": str(self.folder), **env}, capture_output=True, text=True, timeout=20)


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell[0]).name)
def box(tmp_path: Path, request: pytest.FixtureRequest) -> Box:
    return Box(tmp_path, request.param)


def test_dash_is_here() -> None:
    """The shell of Debian's images; without it these tests would show less than they say."""
    assert DASH is not None


def test_sglang_gets_its_part_of_what_is_free(box: Box) -> None:
    box.smi("14000")
    done = box.run(cap(SGLANG), [*SHOW, "--model", "a b"])
    assert done.stdout == "|\n<--model><a b><--mem-fraction-static=0.314>"  # (5000 - 600) / 14000
    assert done.stderr == "gpumem: --mem-fraction-static=0.314: budget 5000 MiB, overhead 600 MiB, free 14000 MiB\n"


def test_sglang_with_less_free_than_its_budget_takes_what_is_free(box: Box) -> None:
    box.smi("3000")
    assert box.run(cap(SGLANG)).stdout.endswith("<--mem-fraction-static=0.800>")  # (3000 - 600) / 3000


@pytest.mark.parametrize("free", ["600", "40"])
def test_sglang_is_not_started_where_the_overhead_takes_all(box: Box, free: str) -> None:
    box.smi(free)
    done = box.run(cap(SGLANG))
    assert (done.returncode, done.stdout) == (78, "")
    assert f"not started: {free} MiB are free" in done.stderr


def test_sglang_starts_with_the_last_thousandth(box: Box) -> None:
    box.smi("601")
    assert box.run(cap(SGLANG)).stdout.endswith("<--mem-fraction-static=0.001>")


def test_llama_leaves_free_what_is_above_its_budget(box: Box) -> None:
    box.smi("14000")
    done = box.run(cap(LLAMA), [*SHOW, "-m", "a.gguf"])
    assert (done.returncode, done.stdout) == (0, "9000|\n<-m><a.gguf>")
    assert "LLAMA_ARG_FIT_TARGET=9000: budget 5000 MiB, free 14000 MiB" in done.stderr


def test_llama_with_less_free_than_its_budget_leaves_nothing(box: Box) -> None:
    box.smi("4000")
    assert box.run(cap(LLAMA)).stdout.startswith("0|")


def test_ollama_is_told_bytes_beyond_32_bits(box: Box) -> None:
    box.smi("80000")
    assert box.run(cap(OLD_OLLAMA)).stdout.startswith(f"|{(80000 - 5000) * 1024 * 1024}\n")


@pytest.mark.parametrize("name", ["LLAMA_ARG_FIT_TARGET", "LLAMA_ARG_FIT"])
@pytest.mark.parametrize("value", ["2048", ""])
def test_a_variable_that_the_environment_has_stays(box: Box, name: str, value: str) -> None:
    """From envFrom, for one: admission could not see it. Nothing is measured, so no nvidia-smi is needed."""
    done = box.run(cap(LLAMA), **{name: value})
    target = value if name == "LLAMA_ARG_FIT_TARGET" else ""
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{target}|\n<>", "")


def test_of_several_cards_the_largest_number_counts(box: Box) -> None:
    """Measured by the smaller one, the larger card would be used beyond the budget."""
    box.smi("7000", " 14000 ", "9000")
    assert box.run(cap(SGLANG)).stdout.endswith("<--mem-fraction-static=0.314>")
    assert box.run(cap(LLAMA)).stdout.startswith("9000|")


UNKNOWN = [
    ("[N/A]",),
    ("14000", "[N/A]"),
    ("14000", "[Insufficient Permissions]"),
    ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",),
    ("No devices were found",),
    ("-1",),
    ("",),
    (),
    ("0",),
]


@pytest.mark.parametrize("rows", UNKNOWN, ids=str)
def test_what_is_no_number_is_unknown_and_nothing_starts(box: Box, rows: tuple[str, ...]) -> None:
    """Field fault 8: one row without a number emptied the answer, and was read as `all free`."""
    box.smi(*(row.replace("'", "'\\''") for row in rows))
    for framework in (SGLANG, LLAMA, OLD_OLLAMA):
        done = box.run(cap(framework))
        assert (done.returncode, done.stdout) == (78, "")
        assert "free GPU memory is unknown" in done.stderr
        assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in done.stderr


def test_an_nvidia_smi_that_fails_is_not_believed(box: Box) -> None:
    box.smi("14000", ends=6)
    assert box.run(cap(LLAMA)).returncode == 78


def test_without_nvidia_smi_torch_is_asked(box: Box) -> None:
    box.program("python3", "case $2 in *mem_get_info*) echo 14000; echo 12000 ;; *) exit 1 ;; esac")
    assert box.run(cap(SGLANG)).stdout.endswith("<--mem-fraction-static=0.314>")


def test_a_smi_without_a_number_is_no_end_where_torch_has_one(box: Box) -> None:
    box.smi("[N/A]")
    box.program("python3", "echo 14000")
    assert box.run(cap(LLAMA)).stdout.startswith("9000|")


def test_without_either_nothing_starts(box: Box) -> None:
    box.program("python3", "echo 'ModuleNotFoundError: No module named torch' >&2; exit 1")
    done = box.run(cap(SGLANG))
    assert (done.returncode, done.stdout) == (78, "")
    assert "sglang cannot be held to 5000 MiB" in done.stderr


def test_the_commands_own_end_is_the_pods(box: Box) -> None:
    box.smi("14000")
    assert box.run(cap(LLAMA), ["sh", "-c", "exit 7"]).returncode == 7


def test_the_program_for_torch_is_python(tmp_path: Path) -> None:
    """The script's python text, run by this python with a torch of two cards."""
    text = cap(SGLANG).script.split("python3 -c '")[1].split("' 2>/dev/null")[0]
    (tmp_path / "torch.py").write_text(
        "class cuda:\n    device_count = staticmethod(lambda: 2)\n"
        "    mem_get_info = staticmethod(lambda card: ((7000 + card) * 1048576 + 5, 15 << 30))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["7000", "7001"]


@pytest.mark.parametrize("framework", [SGLANG, LLAMA, OLD_OLLAMA], ids=lambda framework: framework.name)
def test_kubernetes_has_nothing_to_expand_in_a_script(framework: Framework) -> None:
    """`$$` becomes `$`, and `$(NAME)` the variable NAME: no name has a blank, a quote or a parenthesis in it."""
    script = cap(framework).script
    assert "$$" not in script
    assert "@" not in script.replace('"$@"', "")
    for reference in script.split("$(")[1:]:
        name = reference.partition(")")[0]
        assert any(mark in name for mark in ' "('), name
