"""Text that Terraform must take as it is."""

from __future__ import annotations


def literal(text: str) -> str:
    """`text` with Terraform's own sequences escaped: a container's `${HOME}` is not ours to fill in."""
    return text.replace("${", "$${").replace("%{", "%%{")
