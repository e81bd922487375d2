"""A tenant's framework: what it is told its budget by. What each can be told is in `admission/caps.py`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.estate.base import EstateModel, broken_rule
from helpers.domain.memory import PositiveMib

FrameworkName = Literal[
    "vllm",
    "sglang",
    "llama.cpp",
    "llama-swap",
    "ollama",
    "onnxruntime",
    "pytorch",
    "tensorflow",
    "jax",
    "triton",
    "cuda-mps",
]

# Frameworks whose number is known only at start: the container's command is wrapped.
WRAPPED: tuple[FrameworkName, ...] = ("sglang", "llama.cpp", "llama-swap", "ollama")
# Keys without which a framework has no cap, and why.
_REQUIRED: dict[tuple[FrameworkName, str], str] = {
    ("sglang", "overhead_mib"): "sglang's fraction holds weights and KV cache alone, so what comes on top is declared",
    ("ollama", "version"): "which variable ollama listens to depends on its version",
    ("pytorch", "version"): "pytorch listens to a fraction since 2.10.0 and refuses it before",
    ("jax", "version"): "jaxlib's version decides the variable's name, and both names together are an error",
    ("cuda-mps", "mps_pipe_directory"): "with another directory than the daemon's there is no MPS and no limit",
}
# Who reads a key besides those that need it; a version is always told in the annotation.
_READ_BY: dict[str, tuple[FrameworkName, ...]] = {
    "overhead_mib": ("sglang",),
    "entrypoint": ("vllm", *WRAPPED),
    "cmd": ("vllm", *WRAPPED),
    "mps_pipe_directory": ("cuda-mps",),
}


def _version(value: str) -> str:
    if re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}(?:[.+-][0-9A-Za-z.+-]{1,40})?", value) is None:
        raise broken_rule("a released version: major.minor, or with more behind it", 'write it as "0.33.0"')
    return value


def _absolute(value: str) -> str:
    if re.fullmatch(r"/[A-Za-z0-9._/-]*", value) is None:
        raise broken_rule("a folder's absolute path, without blanks", "write the path that the MPS daemon was given")
    return value


class Framework(EstateModel):
    """What runs in the tenant's container, so that it can be told its budget in its own words."""

    name: FrameworkName = Field(description="What allocates the memory; docs/guides/framework-caps.md says what holds.")
    version: Annotated[str, AfterValidator(_version)] | None = Field(
        default=None,
        description="Its version, quoted; required where it decides what can be set (ollama, pytorch, jax: jaxlib's).",
    )
    overhead_mib: PositiveMib | None = Field(
        default=None, description="sglang only: MiB of activations and CUDA graphs, which its own limit leaves out."
    )
    entrypoint: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="The image's ENTRYPOINT, for pods that give no command; it cannot be seen at admission.",
    )
    cmd: tuple[str, ...] = Field(
        default=(), strict=False, description="The image's CMD, for pods that give neither command nor args."
    )
    mps_pipe_directory: Annotated[str, AfterValidator(_absolute)] | None = Field(
        default=None, description="cuda-mps only: the MPS daemon's pipe directory as the container sees it."
    )

    @model_validator(mode="after")
    def _keys_fit_the_framework(self) -> Framework:
        for (name, key), why in _REQUIRED.items():
            if self.name == name and getattr(self, key) is None:
                raise broken_rule(f"{why}: {key} is required for {name}", f"add {key}", at="name")
        for key, readers in _READ_BY.items():
            if getattr(self, key) and self.name not in readers:
                rule = f"{self.name} has no use for {key}, which is for {', '.join(readers)}"
                raise broken_rule(rule, f"remove {key}", at=key)
        if self.cmd and not self.entrypoint and self.name in WRAPPED:
            rule = f"{self.name} is started by a wrapper, which needs the entrypoint that comes before cmd"
            raise broken_rule(rule, "add entrypoint, as the image has it", at="cmd")
        return self

    def at_least(self, *wanted: int) -> bool:
        """Whether the declared version is `wanted` (major, minor, patch) or newer; an undeclared one is not."""
        numbers = re.match(r"[0-9.]+", self.version or "")
        declared = [int(part) for part in numbers[0].split(".") if part] if numbers else []
        return declared >= list(wanted)

    def label(self) -> str:
        """`vllm 0.33.0`, or the name alone."""
        return f"{self.name} {self.version}" if self.version else self.name
