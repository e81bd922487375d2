# The only door. `make help` lists what is behind it.
SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
TERRAFORM ?= $(shell command -v terraform || command -v tofu)
# `make demo KUBECONFIG=FILE` uses that cluster; a KUBECONFIG of the environment is never touched by the demo.
DEMO_CLUSTER := $(if $(filter command line,$(origin KUBECONFIG)),--kubeconfig $(KUBECONFIG))
# Terraform and the cdktf command line ask their maker for news otherwise.
export CHECKPOINT_DISABLE := 1
# Test processes side by side, each with labs of its own; a file stays in one, and so do files that share a lab. Most tests
# wait for a cluster, not for a core.
WORKERS ?= 4
# Tests start hundreds of processes: where this is set, each compiles every module of the project anew.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup demo demo-queues demo-down check lint types contracts fast test synth plan docs bench clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: ## Install what the project needs into .venv
	@./lab/setup.sh

demo: setup ## The embedded cluster, the example estate applied in order, one tenant overflowing
	@$(BIN)/python -m lab.demo up $(DEMO_CLUSTER)

demo-queues: ## Chat and batch share one card: real queues, a real coordinator, half a minute
	@./lab/setup.sh --with-queues
	@$(BIN)/python -m lab.queues.demo

demo-down: ## Remove all that the demo made
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m lab.demo down; fi

lint: setup ## ruff, yamllint, import contracts
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/yamllint --strict gpumem.yaml estates
	@$(BIN)/lint-imports --no-cache | tail -n 3

types: setup ## mypy, strict, tests included
	@$(BIN)/mypy --no-error-summary

check: setup lint types ## lint + types + import contracts + the fast tests
	@$(BIN)/pytest -q tests/unit tests/cases tests/docs tests/synth -m "not lab and not terraform"

test: ## Every test, with the control plane; what CI runs
	@./lab/setup.sh --with-node --with-queues --with-postgres --with-chromium --with-kfp --with-checkov
	@$(BIN)/python -m lab.prepare
	@$(MAKE) --no-print-directory -j 2 lint types
	@$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
	@$(BIN)/python docs/generate.py --check

synth: setup ## Synthesise the stacks into cdktf.out
	@$(BIN)/python main.py && ls cdktf.out/stacks

plan: synth ## terraform plan of both stacks against the cluster of $$KUBECONFIG
	@for stack in $$(ls cdktf.out/stacks); do \
		$(TERRAFORM) -chdir=cdktf.out/stacks/$$stack init -input=false >/dev/null && \
		$(TERRAFORM) -chdir=cdktf.out/stacks/$$stack plan -input=false || exit 1; done

docs: setup ## Write the generated reference again
	@$(BIN)/python docs/generate.py

bench: setup ## Benchmarks; each prints one JSON line
	@for file in bench/*.py; do $(BIN)/python $$file || exit 1; done

clean: demo-down ## Remove everything that was installed or built here (the tool cache stays)
	@rm -rf .venv .venv-kfp .venv-checkov .lab node_modules helpers/adapters/bullmq_clients/*/node_modules cdktf.out .mypy_cache .ruff_cache .hypothesis
