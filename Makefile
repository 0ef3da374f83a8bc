# Everything is set up by these targets: Python 3.11 or newer, git and make are all they need.

PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
DBT_VERSIONS := 1.9 1.10 1.12
# The tests that meet what differs between versions of dbt; the others don't know which there is.
DBT_TESTS := $(wildcard tests/dbt/test_*.py) tests/dbt/setup/test_with_dbt.py tests/package/test_tables.py tests/cli/test_run.py
# One worker more than there are cores, since some tests wait for servers and clocks. Each takes tests
# file by file, and takes over from the others once it has none left.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
FAST_TESTS := tests/core tests/app tests/config tests/channels
# What `make test` leaves to `make test-slow`; .ci/run calls both.
SLOW_TESTS := \
	tests/cli/test_canary.py \
	tests/cli/test_receivers.py \
	tests/cli/test_slots.py \
	tests/crash \
	tests/daemon \
	tests/dbt/setup/test_with_dbt.py \
	tests/dbt/test_engines.py \
	tests/dbt/test_picture.py \
	tests/dbt/test_watch.py \
	tests/docs/test_tutorial.py \
	tests/package \
	tests/sample \
	tests/security/bounds/test_deployment.py \
	tests/security/bounds/test_rendering.py \
	tests/security/deliveries/test_deadlines.py \
	tests/security/nothing_forged/test_logs.py \
	tests/security/nothing_forged/test_partial_secrets.py \
	tests/security/one_bad_thing/test_files.py \
	tests/security/one_bad_thing/test_http_server.py \
	tests/security/one_bad_thing/test_logs.py \
	tests/security/one_bad_thing/test_memory.py \
	tests/security/own_tables \
	tests/security/read_only/test_compilation.py \
	tests/store/test_bigquery_store.py \
	tests/warehouses/test_adapter.py
# They read the site that `make docs` builds.
SITE_TESTS := tests/site
# With COVERAGE=1, both record the lines they reach, for `make coverage-report`.
COVERAGE ?=
COV := $(if $(COVERAGE),--cov --cov-append --cov-report=)
COMPILE_ALONE := $(BIN)/uv pip compile --universal --generate-hashes --no-strip-extras \
	--no-emit-index-url --no-header --quiet
COMPILE := $(COMPILE_ALONE) pyproject.toml
# What may go into the image beside DuckDB: names of extras.
IMAGE_EXTRAS := postgres bigquery apprise
COMPILE_IMAGE := $(COMPILE) -c requirements.lock --overrides deploy/docker/left_out.txt

export DO_NOT_TRACK := 1
# The tests start hundreds of processes: none of them should compile dbt anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: audit sbom digests docs help setup setup-places demo test test-fast test-one test-slow lint unit coverage coverage-report crash-test chaos-test security-fuzz soak readme reference format lock test-dbt test-orchestrators clean
.PRECIOUS: .venv-dbt-%/.ready

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.ready ## Install everything into .venv, from the lock

setup-places: .venv-sqlite/.ready .venv-bqemulator/.ready ## Install what tests need beside .venv

demo: setup ## Run the main job on a copy of the sample project
	@$(BIN)/python sample_project/demo.py

test: lint unit ## Check and test everything

lint: setup ## Style, types, the direction of imports, SQL, deployment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfmt --check --no-progressbar --quiet dbt_package macros sample_project/models sample_project/macros sample_project/tests
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes/*.yaml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet --no-progress .github/workflows

unit: setup setup-places ## The tests, without those of `make test-slow`
	$(PYTEST) $(COV) $(SLOW_TESTS:%=--ignore=%) --ignore=$(SITE_TESTS)

test-slow: setup setup-places ## The tests that are slow by nature: dbt builds on every warehouse, crashes, daemons under attack
	$(PYTEST) $(COV) $(SLOW_TESTS)

test-fast: setup ## The tests of core, app, config and channels: for the inner loop
	$(PYTEST) $(FAST_TESTS)

T ?= tests/core

test-one: setup ## One test, file or folder: make test-one T=tests/core/test_values.py
	$(BIN)/python -m pytest $(T)

coverage: ## All tests, and the lines they reach: at least 90 %
	rm -f .coverage .coverage.*
	$(MAKE) unit test-slow coverage-report COVERAGE=1

coverage-report: setup ## Fails if the tests since `rm .coverage` reached less than 90 % of the lines
	$(BIN)/coverage report --fail-under=90

N ?= 200

crash-test: setup ## Kill runs N times on each of two databases, and look what was lost
	SENTINEL_CRASHES=$(N) $(BIN)/python -m pytest tests/crash -k many_times -s

MINUTES ?= 60

chaos-test: setup ## Kill and stop three daemons at random for so many minutes
	SENTINEL_CHAOS_MINUTES=$(MINUTES) SENTINEL_CHAOS_PACE=60 $(BIN)/python -m pytest tests/daemon/test_chaos.py -s

security-fuzz: setup setup-places ## Try hostile SQL on every warehouse for so many minutes
	MINUTES=$(MINUTES) $(BIN)/python -m tests.security.read_only.generated_sql

test-image: setup setup-places ## Fill the image without a container engine, and run what it runs; as root
	$(BIN)/python -m pytest tests/deploy/image.py -s

soak: setup ## Measure the daemon's memory with 10,000 alerts, and a minute in which all are due
	$(BIN)/python -m tests.daemon.soak 10000 600

docs: setup .venv-docs/.ready ## Build the documentation's site into build/docs, and check its links, search and diagrams
	@rm -rf build/docs build/docs-static
	@mkdir -p build/docs-static
	@cp .venv-docs/node_modules/mermaid/dist/mermaid.min.js build/docs-static
	.venv-docs/bin/sphinx-build -q -n -W --keep-going -E -d .venv-docs/doctrees -c docs/site docs build/docs
	$(BIN)/python -m pytest $(SITE_TESTS)

reference: setup ## Write the JSON Schemas and the tables of keys in docs/reference
	$(BIN)/python -m tests.docs.generate

readme: setup ## Write the samples in README.md anew, from a run of the demo
	$(BIN)/python -m tests.sample.readme

format: setup ## Format Python and SQL
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfmt --no-progressbar --quiet dbt_package macros sample_project/models sample_project/macros sample_project/tests

test-dbt: setup $(DBT_VERSIONS:%=test-dbt-%) ## The tests that meet dbt, on its other versions

test-dbt-%: .venv-dbt-%/.ready
	.venv-dbt-$*/bin/python -m pytest -n auto --dist loadscope $(DBT_TESTS)

test-orchestrators: setup .venv-dagster/.ready .venv-airflow/.ready .venv-airflow2/.ready ## The tests with the real Dagster and Airflow
	.venv-dagster/bin/python -m pytest tests/orchestrators/test_dagster.py
	$(BIN)/python -m pytest tests/orchestrators/test_airflow.py

lock: $(BIN)/uv ## Write the locks anew
	$(COMPILE) --extra all --group dev -o requirements.lock
	for version in $(DBT_VERSIONS); do \
		echo "dbt-core~=$$version.0" | $(COMPILE) --no-config --group test \
			--overrides tests/dbt_versions/left_out.txt -c /dev/stdin \
			-o tests/dbt_versions/$$version.lock || exit 1; \
	done
	$(COMPILE) --no-config --group test tests/locks/sqlite.in -o tests/locks/sqlite.lock
	$(COMPILE_ALONE) tests/locks/bqemulator.in -o tests/locks/bqemulator.lock
	$(COMPILE_ALONE) docs/site/requirements.in -o docs/site/requirements.lock
	$(COMPILE_ALONE) -c requirements.lock deploy/docker/build.in -o deploy/docker/build.lock
	$(COMPILE_IMAGE) -o deploy/docker/duckdb.lock
	for extra in $(IMAGE_EXTRAS); do \
		$(COMPILE_IMAGE) --extra $$extra -o deploy/docker/$$extra.lock || exit 1; \
	done
	$(COMPILE) --extra dagster --group test tests/locks/dagster.in -o tests/locks/dagster.lock
	$(COMPILE_ALONE) tests/locks/airflow.in -o tests/locks/airflow.lock
	$(COMPILE_ALONE) tests/locks/airflow2.in -o tests/locks/airflow2.lock

SERVICE ?= pypi

audit: setup ## Look the locks up among known vulnerabilities, at pypi.org or (SERVICE=osv) api.osv.dev
	$(BIN)/python deploy/audit.py $(SERVICE)

sbom: setup ## Write bills of materials from the locks into build/sbom; needs no network
	$(BIN)/python deploy/sbom.py build/sbom

digests: ## Write the present digests of base images; needs docker and its registry
	deploy/docker/digests.sh

clean: ## Remove what these targets have made
	rm -rf build .venv .venv-dbt-* .venv-sqlite .venv-bqemulator .venv-dagster .venv-airflow .venv-airflow2 .venv-docs .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.ready: requirements.lock pyproject.toml $(BIN)/uv
	@echo "setting up $(VENV)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# dbt 1.12 needs dbt-core-experimental-parser, which downloads from outside the package index when
# it is built, and which nothing imports: its lock leaves it out.
.venv-dbt-%/.ready: tests/dbt_versions/%.lock pyproject.toml $(VENV)/.ready
	@echo "setting up .venv-dbt-$*"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-dbt-$*
	@$(BIN)/uv pip sync --quiet --python .venv-dbt-$*/bin/python $<
	@$(BIN)/uv pip install --quiet --python .venv-dbt-$*/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

# dbt-sqlite and the stand-in for BigQuery have pins that differ from Sentinel's: environments of
# their own. Sentinel runs beside dbt-sqlite, and not beside the stand-in.
.venv-sqlite/.ready: tests/locks/sqlite.lock pyproject.toml $(VENV)/.ready
	@echo "setting up .venv-sqlite"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-sqlite
	@$(BIN)/uv pip sync --quiet --python .venv-sqlite/bin/python $<
	@$(BIN)/uv pip install --quiet --python .venv-sqlite/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv-bqemulator/.ready: tests/locks/bqemulator.lock $(VENV)/.ready
	@echo "setting up .venv-bqemulator"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-bqemulator
	@$(BIN)/uv pip sync --quiet --python .venv-bqemulator/bin/python $<
	@touch $@

# Sentinel's integration runs inside Dagster. Airflow's pins conflict with dbt's: its tasks call the
# `sentinel` of .venv.
.venv-dagster/.ready: tests/locks/dagster.lock pyproject.toml $(VENV)/.ready
	@echo "setting up .venv-dagster"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-dagster
	@$(BIN)/uv pip sync --quiet --python .venv-dagster/bin/python $<
	@$(BIN)/uv pip install --quiet --python .venv-dagster/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv-airflow/.ready .venv-airflow2/.ready: .venv-%/.ready: tests/locks/%.lock $(VENV)/.ready
	@echo "setting up .venv-$*"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-$*
	@$(BIN)/uv pip sync --quiet --python .venv-$*/bin/python $<
	@touch $@

.venv-docs/.ready: docs/site/requirements.lock docs/site/package-lock.json $(VENV)/.ready
	@echo "setting up .venv-docs"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-docs
	@$(BIN)/uv pip sync --quiet --python .venv-docs/bin/python $<
	@cp docs/site/package.json docs/site/package-lock.json .venv-docs
	@cd .venv-docs && PATH="$$PWD/bin:$$PATH" bin/npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@
