"""Every quantity of a manifest in the spelling that the API server stores (ADR 0002)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.domain.errors import QuantityError
from helpers.domain.quantity import Quantity

# Fields whose value is one quantity, and fields whose value maps names to quantities, by parent.
_SINGLE = {"sizeLimit": "emptyDir", "divisor": "resourceFieldRef"}
_LISTS = {
    ("resources", "limits"),
    ("resources", "requests"),
    ("spec", "hard"),
    ("spec", "overhead"),
    ("capacity", "requests"),
}


def canonical(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """`manifest` with canonical quantities; everything else is untouched.

    Raises:
        QuantityError: a field that holds a quantity holds something else; the path is named.
    """
    return {key: _walk(value, (key,)) for key, value in manifest.items()}


def _walk(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        if path[-2:] in _LISTS:
            return {name: _spelled(text, (*path, name)) for name, text in value.items()}
        return {key: _entry(key, item, path) for key, item in value.items()}
    if isinstance(value, list):
        # A list does not change whose field a mapping is: containers[].resources.limits.
        return [_walk(item, path) for item in value]
    return value


def _entry(key: str, value: Any, path: tuple[str, ...]) -> Any:
    here = (*path, key)
    if _SINGLE.get(key) == path[-1] and value is not None:
        return _spelled(value, here)
    return _walk(value, here)


def _spelled(value: Any, path: tuple[str, ...]) -> str:
    # `cpu: 2` is a number in YAML and a quantity in Kubernetes.
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    try:
        return Quantity.parse(text).canonical()
    except QuantityError as error:
        raise QuantityError(f"{'.'.join(path)}: {error}") from error
