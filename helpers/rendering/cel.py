"""Values as CEL literals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping


def cel_text(text: str) -> str:
    """`text` in double quotes. JSON's escapes are CEL's, as long as nothing becomes a surrogate pair."""
    return json.dumps(text, ensure_ascii=False)


def cel_texts(texts: Iterable[str]) -> str:
    """A list of texts."""
    return f"[{', '.join(map(cel_text, texts))}]"


def cel_map(values: Mapping[str, str]) -> str:
    """A map of texts."""
    return f"{{{', '.join(f'{cel_text(key)}: {cel_text(value)}' for key, value in values.items())}}}"
