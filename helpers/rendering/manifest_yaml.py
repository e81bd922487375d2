"""Manifests as YAML that every reader reads alike: the one spelling for Terraform, files and streams.

PyYAML writes for its own reader. Kubernetes reads with Go's, to which a bare `y` is true and a bare
`1e3` a number, so here a string is only left bare where no reader can take it for anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_BARE = re.compile(r"[A-Za-z/](?:[\w./:@-]*[\w./@-])?", re.ASCII)
# YAML 1.1 counts these as line breaks, 1.2 does not; in double quotes they are escaped.
_OTHER_BREAKS = re.compile("[\x85\u2028\u2029]")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"})


class _ManifestDumper(_Dumper):  # type: ignore[misc]
    """Safe dumper with our own idea of when to quote."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Shared values are written twice: an alias in a manifest helps nobody."""
        return True


def _string(dumper: Any, text: str) -> Any:
    if "\n" in text and not _OTHER_BREAKS.search(text):
        # The emitter falls back to double quotes where a block would not give back the same text.
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    bare = _BARE.fullmatch(text) is not None and text.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if bare else '"')


_ManifestDumper.add_representer(str, _string)


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """`manifest` as one YAML document: keys sorted, so that reordering an estate changes nothing."""
    text: str = yaml.dump(
        dict(manifest),
        Dumper=_ManifestDumper,
        sort_keys=True,
        default_flow_style=False,
        allow_unicode=True,
        width=2**30,
    )
    return text
