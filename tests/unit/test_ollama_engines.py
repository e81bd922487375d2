"""What a tenant's server and its card's exporter say, over real HTTP; whoever is silent is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.adapters.clock import SystemClock
from helpers.adapters.exporter_scrape import HttpExporters
from helpers.adapters.ollama_ import OllamaEngines
from helpers.domain.lanes.engines import Unload
from helpers.domain.lanes.settings import EngineRule
from lab.ollama import StandInOllama, stand_in_ollama
from lab.small_exporter import PHYSICAL_MIB, RESERVED_MIB, LabExporter, lab_exporter
from tests.fakes.coordinator_world import engine_rule


@pytest.fixture
def ollama() -> Iterator[StandInOllama]:
    with stand_in_ollama(StandInOllama({"big": 4608}, free_seconds=0)) as one:
        yield one


@pytest.fixture
def exporter(ollama: StandInOllama) -> Iterator[LabExporter]:
    with lab_exporter("desk", lambda: ollama.usage("desk")) as one:
        yield one


@pytest.fixture
def engines() -> Iterator[OllamaEngines]:
    exporters = HttpExporters(SystemClock())
    yield OllamaEngines(exporters, answer_seconds=5.0)
    exporters.close()


def declared(ollama: StandInOllama, exporter: LabExporter) -> EngineRule:
    metrics = f"http://127.0.0.1:{exporter.port}/metrics"
    return engine_rule(engine={"tenant": "ollama", "ollama_url": ollama.url, "exporter_url": metrics})


def test_what_is_loaded_and_what_is_free_come_from_the_two(
    ollama: StandInOllama, exporter: LabExporter, engines: OllamaEngines
) -> None:
    facts = engines.look(declared(ollama, exporter))
    assert (facts.problem, facts.loaded, facts.free_mib) == ("", {}, PHYSICAL_MIB - RESERVED_MIB)
    ollama.post("/api/generate", {"model": "big", "prompt": "hello"})
    exporter.sample()
    facts = engines.look(declared(ollama, exporter))
    assert facts.loaded == {"big": 4608}
    assert facts.free_mib == PHYSICAL_MIB - RESERVED_MIB - 4608 - ollama.context_mib
    assert engines.unload(declared(ollama, exporter), Unload("ollama", "big", "because")) == ""
    assert ollama.loaded() == []


def test_a_server_that_is_down_leaves_what_is_loaded_unknown(
    ollama: StandInOllama, exporter: LabExporter, engines: OllamaEngines
) -> None:
    ollama.down = True
    facts = engines.look(declared(ollama, exporter))
    assert facts.problem.startswith("Ollama does not answer: ")
    assert facts.loaded is None
    assert facts.free_mib is not None
    assert engines.unload(declared(ollama, exporter), Unload("ollama", "big", "because")) != ""


@pytest.mark.parametrize("text", ["", "no metrics at all {", "gpu_sample_up 0"])
def test_an_exporter_that_says_nothing_useful_leaves_the_memory_unknown(
    text: str, ollama: StandInOllama, exporter: LabExporter, engines: OllamaEngines
) -> None:
    exporter.fault = lambda _: text
    facts = engines.look(declared(ollama, exporter))
    assert facts.problem.startswith("the exporter of desk: ")
    assert (facts.loaded, facts.free_mib) == ({}, None)


def test_a_card_whose_sample_failed_is_no_free_card(
    ollama: StandInOllama, exporter: LabExporter, engines: OllamaEngines
) -> None:
    exporter.fault = lambda text: "\n".join(
        line.rpartition(" ")[0] + " 0" if line.startswith("gpu_sample_up{") else line for line in text.splitlines()
    )
    facts = engines.look(declared(ollama, exporter))
    assert (facts.free_mib, facts.problem.startswith("the exporter of desk: ")) == (None, True)


def test_an_exporter_that_is_gone_is_named(ollama: StandInOllama, engines: OllamaEngines) -> None:
    gone = LabExporter("desk", dict, port=1)
    assert engines.look(declared(ollama, gone)).problem.startswith("the exporter of desk: ")


def test_an_unload_of_what_the_server_does_not_know_is_refused_with_its_words(
    ollama: StandInOllama, exporter: LabExporter, engines: OllamaEngines
) -> None:
    refusal = engines.unload(declared(ollama, exporter), Unload("ollama", "unknown", "because"))
    assert refusal == "POST /api/generate: status 404"
