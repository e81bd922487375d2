"""What was perhaps meant by a name that nobody declares: the end of a repair line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_NAMES_SHOWN = 12


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?`, or the list of what is known, for a repair line."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    more = f", … ({len(names)} in all)" if len(names) > _MOST_NAMES_SHOWN else ""
    return f"known: {', '.join(names[:_MOST_NAMES_SHOWN])}{more}" if names else "none is declared"
