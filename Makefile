# Coinop. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO        ?= go
FUZZ_TIME ?= 30s
DEMO_FOR  ?= 20s
SEED      ?= 1
STAGE     := out/stage

# stage NAME: COMMAND prints the seconds a stage took, and stops at the first that fails.
define stage
	@mkdir -p out; start=$$(date +%s.%N); echo "== $(1)"; \
	$(2); \
	printf '== %s: %.1f s\n' "$(1)" "$$(echo "$$(date +%s.%N) - $$start" | awk '{print $$1 - $$3}')"
endef

.PHONY: help build test check fuzz bench demo

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/coinop-agent, bin/coinop-cloud, bin/coinop-sim, and every package compiled
	$(GO) build ./...
	CGO_ENABLED=0 $(GO) build -o bin/coinop-agent ./agent/cmd/coinop-agent
	$(GO) build -o bin/coinop-cloud ./cloud/cmd/coinop-cloud
	$(GO) build -o bin/coinop-sim ./sim/cmd/coinop-sim

demo: build ## a whole installation for DEMO_FOR (20s) with the buyers of SEED (1); Ctrl-C ends it, the books are compared
	@bin/coinop-sim demo --for $(DEMO_FOR) --seed $(SEED)

test: ## everything that must pass; CI runs this
	$(call stage,format,test -z "$$(gofmt -l . | tee /dev/stderr)")
	$(call stage,vet,$(GO) vet ./...)
	$(call stage,layout,$(GO) test -count=1 .)
	$(call stage,unit with -race,$(GO) test -race -count=1 $$($(GO) list ./... | grep -v '^coinop$$'))

check: test ## the same, under the name habits know

fuzz: ## every fuzz target for FUZZ_TIME (30s)
	@$(GO) list -f '{{.Dir}} {{.ImportPath}}' ./... | while read -r dir path; do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go 2>/dev/null | awk '{print $$2}'); do \
	    echo "== $$path $$f"; $(GO) test $$path -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ_TIME); done; done

bench: ## benchmarks of every package
	$(GO) test -run '^$$' -bench . -benchmem ./...
