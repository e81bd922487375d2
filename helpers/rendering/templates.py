"""Templates to manifests: Jinja2 that cannot produce broken YAML.

Every `{{ … }}` is written as a quoted scalar or a flow collection, without a filter that somebody
could forget: a value that holds a colon, a quote or a newline stays that value. An undefined name
is an error. Each document carries its place in the stack under `x-gpumem`, which is taken off:

    x-gpumem: {address: capacity-watch, after: [capacity-config], retain: false}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined

from helpers.rendering.objects import RenderedObject, RenderingError, Wave
from helpers.rendering.quantities import canonical

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
PLACE_KEY = "x-gpumem"

# libyaml is ten times faster, and every wheel of PyYAML has it; a build without it still works.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOT_PLAIN_ASCII = re.compile(r"[^\x20-\x7e]")


def render_template(wave: Wave, template: str, **context: Any) -> Iterator[RenderedObject]:
    """The objects of one file under `manifests/`, such as `capacity/watch.yaml.j2`.

    The component is the file's folder. Quantities come out canonical.
    """
    text = _environment().get_template(template).render(context)
    for document in yaml.load_all(text, _Loader):
        if document is None:
            continue
        place = document.pop(PLACE_KEY, None)
        if not isinstance(place, dict) or "address" not in place:
            raise RenderingError(f"manifests/{template}: a document lacks {PLACE_KEY}: {{address: …}}")
        yield RenderedObject(
            wave=wave,
            component=template.split("/", 1)[0],
            address=place["address"],
            manifest=canonical(document),
            retain=bool(place.get("retain", False)),
            after=tuple(place.get("after", ())),
        )


def render_document(template: str, **context: Any) -> dict[str, Any]:
    """The one document of a file under `manifests/` that is no object of the rendering, such as Helm values."""
    document = yaml.load(_environment().get_template(template).render(context), _Loader)  # noqa: S506 - it is a safe one
    if not isinstance(document, dict):
        raise RenderingError(f"manifests/{template}: it holds no mapping")
    return document


def quoted(value: Any) -> str:
    """`value` as YAML on one line, whatever it holds: JSON, with every other character escaped.

    YAML is a superset of JSON except for what it counts as unprintable or as a line break inside a
    quoted scalar (DEL, C1 controls, U+2028, …), so nothing outside printable ASCII is left bare.

    Raises:
        jinja2.UndefinedError: the template names something that is not there.
    """
    if isinstance(value, Undefined):
        return str(value)  # StrictUndefined raises here, and its message names the variable.
    text = json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False)
    return _NOT_PLAIN_ASCII.sub(lambda match: f"\\U{ord(match[0]):08x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) has no YAML form")


@cache
def _environment() -> Environment:
    return Environment(  # noqa: S701 - this is YAML; `finalize` quotes every value, HTML escaping would corrupt it
        loader=FileSystemLoader(MANIFESTS),
        undefined=StrictUndefined,
        finalize=quoted,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
