# Model Garden on Kubernetes. `make help` lists what there is.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .uv/$(UV_VERSION)/bin/uv
PY := .venv/bin/python
export UV_PROJECT_ENVIRONMENT := .venv
# Python keeps what it compiles, also where the environment says not to, as that of a container often does: a process
# that trains imports thousands of modules, in 8 s; in 23 s if it has to compile them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-down test test-unit test-cluster test-trainer test-images lint generate images chart gpu-wheels wheel sbom audit version clean

# Every test belongs to one part: what needs the training stack, what needs Helm, and of the rest what needs a cluster.
TRAINER_TESTS := \
  tests/trainer tests/datasets tests/remote tests/testing tests/demo tests/tools tests/e2e tests/docs \
  tests/estimate/test_memory_replay.py tests/estimate/test_model_shape.py tests/cli/test_local.py \
  tests/cli/test_data.py tests/cli/test_preview.py tests/local/test_serve.py tests/openai_api/test_local.py \
  tests/storage tests/api/test_datasets.py tests/api/test_models.py tests/web/test_new_job.py \
  tests/web/test_upload.py
IMAGE_TESTS := tests/images tests/chart

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.complete ## install the Python environment and the cluster's programs

demo: .venv/.complete ## start a cluster and the operator, and train a tiny model with them
	$(PY) -m demo

demo-down: .venv/.tools ## stop the demo's cluster and remove its files
	$(PY) -m demo --down

test: .venv/.tests lint ## every check and every test: lint, then the four parts below, two files at a time
	$(PY) -m pytest -n 2 --dist loadfile

test-unit: .venv/.tools ## the tests that need neither a cluster nor PyTorch: under a minute
	$(PY) -m pytest -n auto -m "not cluster" $(addprefix --ignore=,$(TRAINER_TESTS) $(IMAGE_TESTS))

test-cluster: .venv/.cluster .venv/.kueue .venv/.prometheus ## the tests of operator and command line that need a cluster, but not PyTorch
	$(PY) -m pytest -m cluster $(addprefix --ignore=,$(TRAINER_TESTS) $(IMAGE_TESTS))

test-trainer: .venv/.tests ## the tests that need the training stack: data sets, trainer, generated files, whole jobs
	$(PY) -m pytest $(TRAINER_TESTS)

test-images: .venv/.helm ## the tests of Dockerfiles and chart; MODEL_GARDEN_TEST_IMAGES=1 builds the operator's image
	$(PY) -m pytest $(IMAGE_TESTS)

lint: .venv/.tools ## style, types, import rules: seconds
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

generate: .venv/.complete .venv/.helm ## rewrite the generated files: CRD, operator.yaml, reference tables
	$(PY) -m tools.generate

images: ## build both images with docker, podman or buildah; ARGS="--help" lists the options
	@$(PYTHON) tools/images.py $(ARGS)

chart: .venv/.helm ## package the chart into dist/; ARGS="--images PREFIX" names the images that it installs
	@$(PY) -m tools.chart $(ARGS)

gpu-wheels: $(UV) ## build dist/gpu-packages, which tools.gpu_check needs on a machine without a network
	@$(PYTHON) -m tools.gpu_packages --uv $(UV) $(ARGS)

wheel: $(UV) ## build the wheel into dist/
	@$(UV) build --quiet --wheel --out-dir dist

sbom: $(UV) ## write a list of what uv.lock pins into dist/, as CycloneDX
	@mkdir -p dist && $(UV) export --quiet --frozen --all-extras --no-dev --format cyclonedx1.5 --preview-features sbom-export \
	  --output-file dist/model-garden-$$($(MAKE) --silent version).cdx.json

audit: .venv/.tools ## ask public databases for known vulnerabilities of what uv.lock and each go.mod pin
	@$(PY) -m tools.audit --uv $(UV) $(ARGS)

version: ## print the version
	@sed -n 's/^__version__ = "\(.*\)"/\1/p' operator/model_garden/__init__.py

clean: ## remove the environments; keep clusters and caches
	rm -rf .venv .venv-unsloth .venv-mlflow .venv-harness .uv

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; run: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "» uv $(UV_VERSION)"
	@$(PYTHON) -m venv .uv/$(UV_VERSION) && .uv/$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.tools: pyproject.toml devcluster/pyproject.toml uv.lock | $(UV)
	@echo "» the operator, the command line and the development tools"
	@$(UV) sync --quiet --frozen --inexact --python $(PYTHON) --extra operator --extra tracing --extra api
	@touch $@

.venv/.cluster: .venv/.tools
	@$(PY) -m devcluster build $(KEEP)
	@touch $@

.venv/.helm: .venv/.cluster
	@$(PY) -m devcluster build --helm $(KEEP)
	@touch $@

.venv/.prometheus: .venv/.cluster
	@echo "» Prometheus, for the tests"
	@$(PY) -m tests.monitoring.programs
	@touch $@

.venv/.kueue: .venv/.cluster
	@$(PY) -m devcluster build --kueue $(KEEP)
	@touch $@

# The binaries build or download while the training stack, about 6 GB, installs.
.venv/.complete: .venv/.tools
	@echo "» the training stack (about 6 GB) and the cluster's programs"
	@$(PY) -m devcluster build $(KEEP) & building=$$!; \
	  $(UV) sync --quiet --frozen --python $(PYTHON) --extra operator --extra tracing --extra api --extra trainer --extra trackers && wait $$building
	@touch $@

# The tests render the chart, read and write real storage servers, and run Unsloth's real classes on a CPU: in an
# environment of its own, because the packages that it brings change what peft imports. The programs in Go share many
# packages, so all of them are built in one cache, which stays (`go clean -cache` removes it).
.venv/.tests: KEEP := --keep-go-cache
.venv/.tests: .venv/.complete .venv/.helm .venv/.kueue .venv/.prometheus
	@echo "» storage servers, for the tests"
	@$(PY) -m tests.remote.servers
	@! command -v runc >/dev/null || $(PY) -m devcluster build --kubelet $(KEEP)
	@echo "» unsloth, for the tests"
	@UV_PROJECT_ENVIRONMENT=.venv-unsloth $(UV) sync --quiet --frozen --python $(PYTHON) --extra operator --extra api --extra trainer-gpu
	@echo "» lm-evaluation-harness, for the tests"
	@UV_PROJECT_ENVIRONMENT=.venv-harness $(UV) sync --quiet --frozen --no-dev --python $(PYTHON) --extra trainer --extra harness
	@echo "» an MLflow server, for the tests"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-mlflow && $(UV) pip install --quiet --python .venv-mlflow mlflow==3.17.2
	@touch $@
