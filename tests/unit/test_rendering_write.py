"""Plain YAML in folders: reproducible, and tidy without touching what is somebody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from helpers.domain.errors import InputError
from helpers.rendering.objects import Rendered
from helpers.rendering.render import render
from helpers.rendering.write import INDEX_FILE, STEPS_FILE, to_stream, write_tree
from tests.synth.estates import EXAMPLE, example, shipped


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_writes_are_the_same_bytes(tmp_path: Path) -> None:
    write_tree(render(shipped(EXAMPLE)), tmp_path / "a")
    write_tree(render(example()), tmp_path / "b")
    write_tree(render(example()), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_one_file_an_object_and_a_folder_a_wave(tmp_path: Path) -> None:
    rendered = render(shipped(EXAMPLE))
    written = write_tree(rendered, tmp_path)
    assert len(written) == len(rendered.objects) + 1
    assert {path.parts[0] for path in written} == {"0-nvidia", "1-consumers", STEPS_FILE}
    found = yaml.safe_load((tmp_path / "1-consumers" / "3-tenant-frigate.yaml").read_text())
    assert found == next(o.manifest for o in rendered.objects if o.address == "tenant-frigate")


def test_folders_applied_by_file_name_have_namespaces_first_and_workloads_last(tmp_path: Path) -> None:
    written = write_tree(render(shipped(EXAMPLE)), tmp_path)
    kinds = [yaml.safe_load((tmp_path / p).read_text())["kind"] for p in written if p.parts[0] == "1-consumers"]
    assert kinds[0] == "Namespace"
    assert kinds[-1] == "StatefulSet" or kinds[-1] == "Deployment"
    first_workload = min(kinds.index(kind) for kind in ("Deployment", "StatefulSet"))
    assert set(kinds[first_workload:]) == {"Deployment", "StatefulSet"}


def test_what_an_earlier_estate_left_is_removed_and_other_files_stay(tmp_path: Path) -> None:
    write_tree(render(shipped(EXAMPLE)), tmp_path)
    other = tmp_path / "0-nvidia" / "mine.yaml"
    other.write_text("kind: ConfigMap\n")
    rendered = render(shipped(EXAMPLE))
    gone = ("tenant-frigate", "replicas-frigate")
    fewer = Rendered(
        tuple(item for item in rendered.objects if item.address not in gone),
        tuple(step for step in rendered.steps if step.address not in gone),
    )
    write_tree(fewer, tmp_path)
    assert not (tmp_path / "1-consumers" / "3-tenant-frigate.yaml").exists()
    assert (tmp_path / "1-consumers" / "3-tenant-llama-swap.yaml").exists()
    assert other.exists()


@pytest.mark.parametrize("index", ['["../precious.yaml", "/etc/hosts", 5]', "no json", '{"a": 1}'])
def test_an_index_that_is_not_ours_removes_nothing(tmp_path: Path, index: str) -> None:
    precious = tmp_path / "precious.yaml"
    precious.write_text("x")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / INDEX_FILE).write_text(index)
    write_tree(render(shipped(EXAMPLE)), folder)
    assert precious.read_text() == "x"
    assert "0-nvidia/0-namespace.yaml" in json.loads((folder / INDEX_FILE).read_text())


def test_the_steps_are_listed_with_what_they_run(tmp_path: Path) -> None:
    write_tree(render(shipped(EXAMPLE)), tmp_path)
    steps = yaml.safe_load((tmp_path / STEPS_FILE).read_text())
    assert [step["address"] for step in steps["0-nvidia"]] == ["capacity-release", "capacity-assert"]
    gate = steps["1-consumers"][0]
    assert (gate["address"], gate["run"], gate["on"]) == ("gate", ["gpumem", "verify"], "create")


def test_the_stream_holds_every_object_behind_what_it_needs() -> None:
    rendered = render(shipped(EXAMPLE))
    documents = list(yaml.safe_load_all(to_stream(rendered)))
    assert len(documents) == len(rendered.objects)
    seen: set[str] = set()
    created = {d["metadata"]["name"] for d in documents if d["kind"] == "Namespace"}
    for document in documents:
        namespace = document["metadata"].get("namespace")
        assert namespace not in created or namespace in seen, document
        if document["kind"] == "Namespace":
            seen.add(document["metadata"]["name"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--output-dir"):
        write_tree(render(shipped(EXAMPLE)), tmp_path / "file" / "out")
