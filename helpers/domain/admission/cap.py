"""A framework's limit as data, and how it goes into a container without overriding what is there.

The policy engine says the same in CEL (`rendering/admission_tenants.py`): what is decided here by an
`Obstacle` is decided there by an expression of the same name, and a table of cases holds both together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Container = Mapping[str, Any]
HeldBy = Literal["scheduler only", "soft cap", "hard cap"]
CapKind = Literal["env", "argument", "wrapper", "none"]
# Why a cap is not set, in the order in which they are asked.
Obstacle = Literal["env set", "env hidden", "flag set", "shell", "no command line"]

WRAPPER_NAME = "gpumem"  # $0 of the wrapper's script.
# A word of a command line that is a shell: what is appended behind `sh -c script` goes to the script.
SHELL_WORD = "(.*/)?(sh|ash|bash|busybox|dash|ksh|zsh)"


class Variable(BaseModel):
    """An environment variable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    value: str


class Cap(BaseModel):
    """What tells one framework its budget. `kind` says which of `env`, `argument` and `script` counts.

    `unless_env` and `unless_flags` are what the user may have set instead; `--fl[ag]` is abbreviated down to `--fl`,
    as argparse takes it, and `--flag` never. `setting` and `reason` are for the annotation.
    `entrypoint` and `cmd` are the image's own, as far as the estate tells them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    framework: str
    kind: CapKind
    held_by: HeldBy
    reason: str
    setting: str = ""
    env: tuple[Variable, ...] = ()
    argument: str = ""
    script: str = ""
    appends: bool = False
    unless_env: tuple[str, ...] = ()
    unless_flags: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()

    @property
    def wrapper(self) -> tuple[str, ...]:
        """What comes before the container's own command."""
        return ("/bin/sh", "-c", self.script, WRAPPER_NAME)

    def exact_flags(self) -> tuple[str, ...]:
        """Flags that are only ever written in full."""
        return tuple(flag for flag in self.unless_flags if "[" not in flag)

    def flag_stems(self) -> tuple[str, ...]:
        """What every abbreviation of the other flags begins with."""
        return tuple(flag.partition("[")[0] for flag in self.unless_flags if "[" in flag)

    def obstacles(self) -> tuple[Obstacle, ...]:
        """What may stand against this kind of cap."""
        if self.kind == "env":
            return ("env set", "env hidden")
        if self.kind == "argument":
            return ("flag set", "shell", "no command line")
        if self.kind == "wrapper":
            shell: tuple[Obstacle, ...] = ("shell",) if self.appends else ()
            return ("env set", "flag set", *shell, "no command line")
        return ()

    def text_set(self) -> str:
        """The annotation where the cap holds (and where there is none to set)."""
        if self.kind == "none":
            return f"{self.framework}: scheduler only: {self.reason}"
        return f"{self.framework}: {self.held_by}: set {self.setting}: {self.reason}"

    def text_not_set(self, why: str) -> str:
        """The annotation where the cap was left out."""
        what = f"not set {self.setting}" if self.setting else "nothing set"
        return f"{self.framework}: scheduler only: {what}: {why}"

    def text_of(self, obstacle: Obstacle) -> str:
        """The annotation where `obstacle` stands against it."""
        flags = " or ".join(re.sub(r"[][]", "", flag) for flag in self.unless_flags)
        why = {
            "env set": f"the container itself sets {' or '.join(self.unless_env)}",
            "env hidden": "the container has envFrom, which admission cannot look into and a variable would override",
            "flag set": f"the command line itself has {flags}",
            "shell": "the command is a shell, which would keep an argument from the framework",
            "no command line": "the pod has no command, and the image's own cannot be seen; "
            "the estate can tell it by framework.entrypoint and framework.cmd",
        }
        return self.text_not_set(why[obstacle])


def apply_cap(container: Container, cap: Cap) -> tuple[dict[str, Any], str]:
    """`container` with `cap` where nothing stands against it, and the text for the annotation.

    Applied to its own result it changes nothing and says the same.
    """
    if not _is_set(container, cap):
        for obstacle in cap.obstacles():
            if _STANDS[obstacle](container, cap):
                return dict(container), cap.text_of(obstacle)
    return {**container, **_changes(container, cap)}, cap.text_set()


def _is_set(container: Container, cap: Cap) -> bool:
    if cap.kind == "env":
        return not _missing(container, cap) and not _env_set(container, cap)
    if cap.kind == "argument":
        return cap.argument in _line(container, cap) and not _flag_set(container, cap)
    return cap.kind == "wrapper" and _list(container, "command")[:4] == [*cap.wrapper]


def _changes(container: Container, cap: Cap) -> dict[str, Any]:
    if cap.kind == "none" or _is_set(container, cap):
        return {}
    if cap.kind == "env":
        return {"env": [*_list(container, "env"), *_missing(container, cap)]}
    if cap.kind == "argument":
        return {"args": [*_args(container, cap), cap.argument]}
    changes = {"command": [*cap.wrapper, *_command(container, cap)]}
    # The image's CMD counts only as long as the pod gives no command.
    args = _args(container, cap)
    return {**changes, "args": args} if args else changes


def _list(container: Container, key: str) -> list[Any]:
    return list(container.get(key) or ())


def _command(container: Container, cap: Cap) -> list[str]:
    return _list(container, "command") or [*cap.entrypoint]


def _args(container: Container, cap: Cap) -> list[str]:
    if _list(container, "args") or _list(container, "command"):
        return _list(container, "args")
    return [*cap.cmd]


def _line(container: Container, cap: Cap) -> list[str]:
    """The whole command line, as far as pod and estate tell it."""
    return [*_command(container, cap), *_args(container, cap)]


def _missing(container: Container, cap: Cap) -> list[dict[str, str]]:
    """The cap's variables that the container does not have with this very value."""
    env = _list(container, "env")
    return [item for item in (variable.model_dump() for variable in cap.env) if item not in env]


def _env_set(container: Container, cap: Cap) -> bool:
    ours = [variable.model_dump() for variable in cap.env]
    return any(item["name"] in cap.unless_env and item not in ours for item in _list(container, "env"))


def _flag_set(container: Container, cap: Cap) -> bool:
    return any(_is_users_flag(word, cap) for word in _line(container, cap))


def _is_users_flag(word: str, cap: Cap) -> bool:
    # argparse as these servers use it takes `--a_b` for `--a-b`.
    flag = word.partition("=")[0].replace("_", "-")
    known = (flag in cap.exact_flags(), *(flag.startswith(stem) for stem in cap.flag_stems()))
    return word != cap.argument and any(known)


def _shell(container: Container, cap: Cap) -> bool:
    return any(re.fullmatch(SHELL_WORD, word) is not None for word in _line(container, cap))


def _no_command_line(container: Container, cap: Cap) -> bool:
    # A wrapper stands before the command; an argument alone would replace the image's CMD.
    return not (_command(container, cap) if cap.kind == "wrapper" else _line(container, cap))


_STANDS: dict[Obstacle, Callable[[Container, Cap], bool]] = {
    "env set": _env_set,
    "env hidden": lambda container, _cap: bool(_list(container, "envFrom")),
    "flag set": _flag_set,
    "shell": _shell,
    "no command line": _no_command_line,
}
