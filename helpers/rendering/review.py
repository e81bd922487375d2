"""Review two estates: both rendered, compared, judged. No cluster is asked."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.domain.estate.model import Estate
from helpers.domain.review.build import Rendering, review_change
from helpers.domain.review.documents import NO_WAVE, Document
from helpers.domain.review.model import ReviewResult
from helpers.domain.review.tenants import BUDGET_FAMILY, TENANT_FAMILY
from helpers.domain.watchdog.recommendation import Recommendation
from helpers.rendering.objects import address_of
from helpers.rendering.render import render


def review_estates(
    base: tuple[str, Estate],
    new: tuple[str, Estate],
    *,
    use: Mapping[str, Recommendation] | None = None,
    allow_overflow: bool = False,
) -> ReviewResult:
    """What the change from `base` to `new` does; each is the name to show and the estate."""
    return review_change(rendering_of(*base), rendering_of(*new), use=use, allow_overflow=allow_overflow)


def rendering_of(name: str, estate: Estate) -> Rendering:
    """`estate` and what it renders to, in the review's terms."""
    rendered = render(estate)
    documents = [Document(o.wave, o.address, o.kind, o.component, o.manifest) for o in rendered.objects]
    documents += [Document(s.wave, s.address, "Step", s.component, dict(s.triggers)) for s in rendered.steps]
    documents += [Document(NO_WAVE, f.path, "File", "", {"text": f.text}) for f in rendered.files]
    families = {"create": TENANT_FAMILY, "patch": BUDGET_FAMILY}
    addresses = {
        (families[tenant.apply], tenant.name): address_of(families[tenant.apply], tenant.name)
        for tenant in estate.tenants
        if tenant.apply in families
    }
    return Rendering(name, estate, {document.key: document for document in documents}, addresses)
