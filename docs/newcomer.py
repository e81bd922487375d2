"""Follows docs/guides/first-change.md literally in a fresh clone, and prints how long each part took.

python docs/newcomer.py [FOLDER]    FOLDER: where the clone goes (default: a temporary one, removed afterwards)

Every `sh` block is given to one shell, in order, as a reader would paste it. Exit 1 where a command
fails; the clone's demo is taken down then, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "guides" / "first-change.md"
_TOLD = "newcomer: part "


def parts(text: str) -> list[tuple[str, str]]:
    """`(heading, commands)` of each `sh` block, in order."""
    found, heading = [], ""
    for piece in re.findall(r"^## [^\n]*$|^```sh\n.*?^```$", text, re.MULTILINE | re.DOTALL):
        if piece.startswith("## "):
            heading = piece.removeprefix("## ")
        else:
            found.append((heading, piece.removeprefix("```sh\n").removesuffix("```")))
    return found


def script(blocks: list[tuple[str, str]]) -> str:
    """All blocks for one shell that stops at the first failure and says where it is."""
    told = [f"echo '{_TOLD}{number}'\n{commands}" for number, (_, commands) in enumerate(blocks)]
    return "set -e\n" + "".join(told) + f"echo '{_TOLD}end'\n"


def follow(text: str, folder: Path) -> int:
    """Run the guide `text` in `folder`; seconds of each part and their sum on standard output."""
    blocks = parts(text)
    environment = {key: value for key, value in os.environ.items() if key not in ("KUBECONFIG", "GPUMEM_ESTATE")}
    # Their commits are nobody's.
    environment |= {f"GIT_{who}_{what}": "newcomer" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    shell = subprocess.Popen(
        ["bash", "-c", script(blocks)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert shell.stdout is not None, "it is a pipe"  # noqa: S101 - for the type checker
    started = time.monotonic()
    began = [started]
    for line in shell.stdout:
        if line.startswith(_TOLD):
            began.append(time.monotonic())
        else:
            sys.stdout.write(f"    {line}")
            sys.stdout.flush()
    code = shell.wait()
    for (heading, commands), first, then in zip(blocks, began[1:], began[2:], strict=False):
        sys.stdout.write(f"{then - first:7.1f} s  {heading}: {commands.splitlines()[0]}\n")
    verdict = "followed to its end" if code == 0 else f"a command of part {len(began) - 1} failed (exit code {code})"
    sys.stdout.write(f"{time.monotonic() - started:7.1f} s in all: {verdict}\n")
    return 0 if code == 0 else 1


def main(folder: Path) -> int:
    """Clone what is committed here, and follow the guide there."""
    clone = folder / "gpumem"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    # Whatever branch is checked out here: to its reader it is `main`.
    subprocess.run(["git", "checkout", "--quiet", "-B", "main"], cwd=clone, check=True)
    try:
        return follow(GUIDE.read_text(encoding="utf-8"), clone)
    finally:
        subprocess.run(["make", "--silent", "demo-down"], cwd=clone, check=False)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory(prefix="newcomer-") as temporary:
        sys.exit(main(Path(temporary)))
