"""The store of simulated GPU memory."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lab.errors import LabInputError
from lab.usage import PodUsage, UsageStore, belongs_to


def test_what_is_set_is_read_and_freed_once(tmp_path: Path) -> None:
    store = UsageStore(tmp_path)
    assert store.read() == {}
    store.update({"a/one": PodUsage("n", 100), "a/two": PodUsage("n", 200)})
    store.update({"a/two": PodUsage("n", 300)})
    assert UsageStore(tmp_path).read() == {"a/one": PodUsage("n", 100), "a/two": PodUsage("n", 300)}
    assert store.free("a/two") == 300
    assert store.free("a/two") == 0
    assert store.read() == {"a/one": PodUsage("n", 100)}


def test_nothing_used_takes_a_pod_out(tmp_path: Path) -> None:
    store = UsageStore(tmp_path)
    store.update({"a/one": PodUsage("n", 100)})
    store.update({"a/one": PodUsage("n", 0)})
    assert store.read() == {}


def test_a_negative_use_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    store = UsageStore(tmp_path)
    with pytest.raises(LabInputError, match="used MiB of a/two is -1: it may be 0 or more"):
        store.update({"a/one": PodUsage("n", 1), "a/two": PodUsage("n", -1)})
    assert store.read() == {}


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        for number in range(20):
            UsageStore(tmp_path).update({f"w{writer}/{number}": PodUsage("n", 1)})

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert len(UsageStore(tmp_path).read()) == 80


@pytest.mark.parametrize(
    ("pod", "belongs"),
    [
        ({"name": "web-5d9-x", "labels": {"pod-template-hash": "5d9"}, "ownerReferences": [{"name": "web-5d9"}]}, True),
        ({"name": "web-2-5d9-x", "labels": {"pod-template-hash": "5d9"}, "ownerReferences": [{"name": "web-2-5d9"}]},
         False),
        ({"name": "web-0", "ownerReferences": [{"name": "web"}]}, True),
        ({"name": "web"}, True),
        ({"name": "web-0"}, False),
    ],
)  # fmt: skip
def test_a_pod_belongs_to_the_workload_that_made_it(pod: dict[str, object], belongs: bool) -> None:
    assert belongs_to({"metadata": pod}, "web") is belongs
