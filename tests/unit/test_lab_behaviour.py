"""What a simulated pod does is read strictly from its annotations."""

from __future__ import annotations

import pytest

from lab.pod_life.behaviour import Behaviour, BehaviourError, read


def test_without_annotations_a_pod_runs_for_ever_and_uses_nothing() -> None:
    assert read({"other.io/exit-code": "3"}) == Behaviour()


def test_every_annotation_is_read() -> None:
    assert read(
        {
            "lab.gpumem.io/exit-after-seconds": "1.5",
            "lab.gpumem.io/exit-code": "3",
            "lab.gpumem.io/log": "text",
            "lab.gpumem.io/used-mib": "2000",
            "lab.gpumem.io/ready-after-seconds": "2",
            "lab.gpumem.io/terminate-after-seconds": "4",
        }
    ) == Behaviour(1.5, 3, "text", 2000, 2.0, 4.0)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("used-mib", "2Gi", "annotation lab.gpumem.io/used-mib is '2Gi', which is no number"),
        ("used-mib", "-1", "annotation lab.gpumem.io/used-mib is '-1'; it may be 0 to"),
        ("exit-code", "256", "annotation lab.gpumem.io/exit-code is '256'; it may be 0 to 255"),
        ("exit-after-seconds", "nan", "annotation lab.gpumem.io/exit-after-seconds is 'nan'; it may be 0 to"),
        ("exit-after-second", "1", "annotation lab.gpumem.io/exit-after-second is unknown; known are"),
    ],
)
def test_a_wrong_annotation_is_named(key: str, text: str, message: str) -> None:
    with pytest.raises(BehaviourError) as refused:
        read({f"lab.gpumem.io/{key}": text})
    assert str(refused.value).startswith(message)
