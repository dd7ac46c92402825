# The one entry for people and CI. `make help` lists what there is.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help build demo test lint e2e fuzz soak bench microbench chart generated

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the programs
	$(CARGO) build --locked -p vpa-recommender -p vpa-updater -p vpa-admission-controller

demo: ## Show the suite at work in an embedded cluster (CLUSTER=real: on a real control plane)
	$(CARGO) build --locked --bins -p e2e -p vpa-recommender -p vpa-updater -p vpa-admission-controller
	@CLUSTER=$(CLUSTER) $(TARGET)/debug/demo

test: ## Run everything that a change must pass (E2E=sim: without Go)
	@scripts/test.sh

lint: ## Check format, lints, the rules of the tree and the generated files
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) xtask tidy
	$(CARGO) xtask crds --check
	$(CARGO) xtask flags --check

e2e: ## Run the scenarios (E2E=sim, faulty, real or both; ARGS: parts of names)
	E2E=$(or $(E2E),both) $(CARGO) test --locked -p e2e --test scenarios -- $(ARGS)

fuzz: ## Run the fuzz targets (TARGETS="review pod vpa patch_maths"; FUZZ_SECONDS=60 for each)
	@TARGETS="$(TARGETS)" FUZZ_SECONDS="$(or $(FUZZ_SECONDS),60)" scripts/fuzz.sh run

soak: ## Let a week of rollouts pass in the recommender and look at its memory (SOAK_HOURS=168)
	SOAK_HOURS=$(or $(SOAK_HOURS),168) $(CARGO) test --locked --profile soak -p vpa-recommender --lib -- \
	  --exact cycle::soak_tests::a_soak_under_rollouts_shows_a_flat_line --nocapture

bench: ## Measure the programs (ROWS=a,g,k; PEER=folder of the Go suite's programs; BENCH_CYCLE=10; OUT=folder)
	$(CARGO) build --release --locked -p e2e -p vpa-recommender -p vpa-updater -p vpa-admission-controller \
	  --bin bench --bin vpa-recommender --bin vpa-updater --bin vpa-admission-controller
	@ROWS="$(ROWS)" PEER="$(PEER)" PEER_VERSION="$(PEER_VERSION)" BENCH_CYCLE="$(BENCH_CYCLE)" OUT="$(OUT)" \
	  $(TARGET)/release/bench

microbench: ## Measure steps of the model, of a pass and of a review
	$(CARGO) bench --locked -p vpa-core

chart: ## Render the chart, check it on a real API server, and bring e2e/rbac.json up to date
	E2E=real E2E_UPDATE=1 $(CARGO) test --locked -p e2e --test scenarios -- the_api_server_accepts_the_chart

generated: ## Write what is generated from the code: the CRDs of the chart, docs/flags.md
	$(CARGO) xtask crds
	$(CARGO) xtask flags
