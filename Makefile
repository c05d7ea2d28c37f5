# Model Garden on Kubernetes. `make help` lists what there is.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .uv/$(UV_VERSION)/bin/uv
PY := .venv/bin/python
export UV_PROJECT_ENVIRONMENT := .venv

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-down test test-unit lint generate images clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.complete ## install the Python environment and the cluster's binaries

demo: .venv/.complete ## the whole idea in one run: a cluster, the operator, a job that trains a tiny model
	$(PY) -m demo

demo-down: .venv/.tools ## stop the demo's cluster and remove what it wrote
	$(PY) -m demo --down

test: .venv/.tests lint ## run every check and every test
	$(PY) -m pytest

test-unit: .venv/.tools ## the tests that need neither a cluster nor torch: under a minute
	$(PY) -m pytest -m "not cluster" tests/contract tests/builders tests/controller tests/services tests/cli/test_help.py

lint: .venv/.tools ## style, types, import rules: seconds
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

generate: .venv/.tools ## rewrite the generated files: CRD, operator.yaml, reference tables
	$(PY) -m tools.generate

images: ## build both images with docker, podman or buildah; ARGS="--help" tells how to name and push them
	@$(PYTHON) tools/images.py $(ARGS)

clean: ## remove the environment; clusters and caches stay
	rm -rf .venv .venv-unsloth .uv

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; run: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "» uv $(UV_VERSION), which installs the rest"
	@$(PYTHON) -m venv .uv/$(UV_VERSION) && .uv/$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.tools: pyproject.toml devcluster/pyproject.toml uv.lock | $(UV)
	@echo "» the operator, the command line and the development tools"
	@$(UV) sync --quiet --frozen --inexact --python $(PYTHON) --extra operator
	@touch $@

# The binaries build or download while the training stack, about 6 GB, installs.
.venv/.complete: .venv/.tools
	@echo "» the training stack (about 6 GB) and, beside it, the cluster's binaries"
	@$(PY) -m devcluster build & building=$$!; \
	  $(UV) sync --quiet --frozen --python $(PYTHON) --extra operator --extra trainer --group benchmarks && wait $$building
	@touch $@

# The tests render the chart, and run Unsloth's real classes on a CPU: in an environment of its own, because the
# packages that it brings change what peft imports.
.venv/.tests: .venv/.complete
	@echo "» unsloth and helm, for the tests"
	@UV_PROJECT_ENVIRONMENT=.venv-unsloth $(UV) sync --quiet --frozen --python $(PYTHON) --extra operator --extra trainer-gpu
	@$(PY) -m devcluster build --helm
	@touch $@
