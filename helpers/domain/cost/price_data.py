"""The price tables, as data. Each row says where its figure is from, and of which day.

`AWS` is the default: each figure is a published list price that anybody can look up, and each card
stands beside the instance type that has it. `REFERENCE` is kept word for word to calculate as the
reference document did; two of its rows name an instance type with another card (their notes say
which), and its H100 and A10G differ from the list.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from helpers.domain.cost.price_table import PriceRow, PriceTable

_LIST = "AWS list price, us-east-1, as generated into karpenter-provider-aws (zz_generated.pricing_aws.go)"
_LIST_ON = date(2026, 7, 20)
_QUOTED = "reference document ADR-094, 'AWS us-east-1, Feb 2026'"
_QUOTED_ON = date(2026, 2, 8)
# Price lists leave spot out, and spot prices move by the hour: this is the reference's assumption, no quotation.
_SPOT_RATIO = Decimal("0.70")
_SPOT_SOURCE = "reference document ADR-094: SPOT_DISCOUNT = 0.70; an assumption, not a quotation"


def _listed(key: str, instance: str, gpus_count: int, price: str, note: str = "") -> PriceRow:
    return _row(key, instance, gpus_count, price, note, _LIST, _LIST_ON)


def _quoted(key: str, instance: str, gpus_count: int, price: str, note: str = "") -> PriceRow:
    return _row(key, instance, gpus_count, price, note, _QUOTED, _QUOTED_ON)


def _row(key: str, instance: str, gpus_count: int, price: str, note: str, source: str, dated_on: date) -> PriceRow:
    gpu_type, memory = key.split("_")
    marketed_gb = int(memory.removesuffix("GB"))
    return PriceRow(key, gpu_type, marketed_gb, instance, gpus_count, Decimal(price), source, dated_on, note)


AWS = PriceTable(
    name="aws-us-east-1-2026-07-20",
    place="AWS us-east-1",
    rows=(
        _listed("A100_80GB", "p4de.24xlarge", 8, "27.44705"),
        _listed("A100_40GB", "p4d.24xlarge", 8, "21.957642", "the reference calls this instance the 80 GB card's"),
        _listed("H100_80GB", "p5.48xlarge", 8, "55.04", "p5.4xlarge has one card for 6.88, the same price a card"),
        _listed("L40S_48GB", "g6e.xlarge", 1, "1.861", "larger g6e have more host for each card, and cost more"),
        _listed("A10G_24GB", "g5.xlarge", 1, "1.006"),
        _listed("L4_24GB", "g6.xlarge", 1, "0.8048"),
        _listed("T4_16GB", "g4dn.xlarge", 1, "0.526"),
    ),
    spot_discount_ratio=_SPOT_RATIO,
    spot_source=_SPOT_SOURCE,
)

REFERENCE = PriceTable(
    name="reference-2026-02",
    place="AWS us-east-1, as the reference quotes it",
    rows=(
        _quoted("A100_80GB", "p4d.24xlarge", 8, "32.80", "a slip: p4d has the 40 GB card; the 80 GB card is p4de's"),
        _quoted("H100_80GB", "p5.48xlarge", 8, "44.00", "the list of 2026-07-20 says 55.04"),
        _quoted("L40S_48GB", "g6.48xlarge", 8, "17.60", "a slip: g6 has the L4; the L40S is g6e's"),
        _quoted("A10G_24GB", "g5.xlarge", 1, "1.10", "the list of 2026-07-20 says 1.006"),
        _quoted("T4_16GB", "g4dn.xlarge", 1, "0.526"),
    ),
    spot_discount_ratio=_SPOT_RATIO,
    spot_source=_SPOT_SOURCE,
)

TABLES = {table.name: table for table in (AWS, REFERENCE)}
DEFAULT = AWS
