# Coinop. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO        ?= go
FUZZ_TIME ?= 30s
DEMO_FOR  ?= 20s
SEED      ?= 1
COUNT     ?= 300
STAMP      = -X main.version=$(shell git describe --always --dirty 2>/dev/null || echo unknown)

GOFUMPT     = $(GO) run mvdan.cc/gofumpt@v0.9.2
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# gRPC, which comes with the OTLP exporters, has a page of traces; for its templates the linker would keep
# every method there is, 5 MB in an agent.
export GOFLAGS := $(GOFLAGS) -tags=grpcnotrace

# stage NAME: COMMAND prints the seconds a stage took, and stops at the first that fails.
define stage
	@mkdir -p out; start=$$(date +%s.%N); echo "== $(1)"; \
	$(2); \
	printf '== %s: %.1f s\n' "$(1)" "$$(echo "$$(date +%s.%N) - $$start" | awk '{print $$1 - $$3}')"
endef

.PHONY: help tools tool-gcc tool-postgres tool-mosquitto tool-zbar tool-ext4 tool-nfc build test check sim soak defences fuzz bench demo

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/coinop-agent, bin/coinop-cloud, bin/coinop-sim, and every package compiled
	$(GO) build ./...
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w $(STAMP)' -o bin/coinop-agent ./agent/cmd/coinop-agent
	$(GO) build -ldflags '$(STAMP)' -o bin/coinop-cloud ./cloud/cmd/coinop-cloud
	$(GO) build -ldflags '$(STAMP)' -o bin/coinop-sim ./sim/cmd/coinop-sim

demo: build $(BROKER:%=tool-%) $(STORE:%=tool-%) ## a whole installation for DEMO_FOR (20s) with the buyers of SEED (1), on BROKER=mosquitto STORE=postgres; Ctrl-C ends it, the books are compared
	@bin/coinop-sim demo --for $(DEMO_FOR) --seed $(SEED) --receipts out/receipts $(BROKER:%=--broker %) $(STORE:%=--store %)

# Unit tests run under the race detector, which takes ten times as long. What starts processes or plays whole
# fleets runs without it, and so does what one goroutine plays: pure packages, and models in others.
LONG  := coinop/sim|coinop/sim/demo|coinop/sim/bench
PURE  := coinop/protocol|coinop/agent/session|coinop/agent/cashbook|coinop/cloud/ledger
UNIT   = $$($(GO) list ./... | grep -vxE 'coinop|$(LONG)|$(FAR)|$(PURE)')
# SQLite is C made into Go: the detector would find nothing there, and take three times as long.
RACE   = -race -gcflags='modernc.org/sqlite/lib=-race=false'
MODELS = ^(TestModel|TestCashlessRandom|TestEveryOperationFails|TestOpeningGivesMemoryBack)$$
# Far ends on ptys keep the times of their buses: their suites have the machine to themselves.
FAR   = coinop/hardware/hardwaretest

# The race detector needs a C compiler, the store's tests a PostgreSQL to start and the broker's suite a
# Mosquitto; Debian keeps both out of the path. Their packages may start servers of their own: nothing
# here uses those.
APT = sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); $$sudo apt-get update -q && $$sudo apt-get install -y -q

tools: tool-gcc tool-postgres tool-mosquitto tool-ext4 tool-zbar tool-nfc
tool-gcc:
	@command -v gcc >/dev/null || { echo "== gcc is missing: installing it with apt"; $(APT) gcc libc6-dev; }
tool-postgres:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
	  echo "== PostgreSQL is missing: installing it with apt"; $(APT) postgresql; }
tool-mosquitto:
	@[ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null || { \
	  echo "== mosquitto is missing: installing it with apt"; $(APT) mosquitto; }

tool-ext4:
	@[ -x /usr/sbin/mkfs.ext4 ] || command -v mkfs.ext4 >/dev/null || { \
	  echo "== mkfs.ext4 is missing: installing it with apt"; $(APT) e2fsprogs; }

tool-zbar:
	@command -v zbarimg >/dev/null || { echo "== zbarimg is missing: installing it with apt"; $(APT) zbar-tools; }

# What judges the readers of closed-loop cards: a host driver for our virtual PN532, and a smart card
# service with a virtual reader. The tests start a service of their own.
tool-nfc:
	@command -v nfc-list >/dev/null && [ -x /usr/sbin/pcscd ] && ls /usr/lib/pcsc/drivers/serial/libifdvpcd.so* >/dev/null 2>&1 || { \
	  echo "== nfc-list, pcscd or its virtual reader is missing: installing them with apt"; $(APT) libnfc-bin pcscd vsmartcard-vpcd; }

check: tools ## format, vet, staticcheck, the tree's shape, unit tests with -race
	$(call stage,format,test -z "$$($(GOFUMPT) -l . | tee /dev/stderr)")
	$(call stage,vet,$(GO) vet ./... && $(GO) vet -tags defences ./sim && cd sim/otelcol && $(GO) vet .)
	$(call stage,staticcheck,$(STATICCHECK) ./...)
	$(call stage,agent for arm,GOARCH=arm CGO_ENABLED=0 $(GO) build -o /dev/null ./agent/cmd/coinop-agent)
	$(call stage,layout,$(GO) test -count=1 .)
	$(call stage,pure packages and models,$(GO) test -count=1 $(subst |, ,$(PURE)) && $(GO) test -count=1 -run '$(MODELS)|^TestRandom' ./cloud/store ./cloud/payment ./hardware/mdb ./agent/journal)
	$(call stage,unit with -race,$(GO) test $(RACE) -count=1 -skip '$(MODELS)' $(UNIT))
	$(call stage,drivers against their far ends,$(GO) test -race -count=1 $(FAR))
	$(call stage,coverage of the rows of a sale,$(GO) test -count=1 -v -run 'TestCoverage$$' ./agent/session && $(GO) test -count=1 -v -run 'TestTable$$' ./cloud/payment)

test: check ## everything that must pass; CI runs this
	$(call stage,build,$(MAKE) -s build)
	$(call stage,a journal of 100000 records and one with every file spoiled,$(GO) test -count=1 -v -run 'TestLongLife|TestEveryFileSpoiled$$' ./agent/journal | grep -v '^ *===\|^    ---')
	$(call stage,end to end,$(GO) test -count=1 -v -timeout 5m -parallel 4 ./sim/demo)
	$(call stage,bench for a moment,$(GO) test -count=1 ./sim/bench)
	$(call stage,simulator with 60 seeds and bad links,$(GO) test -count=1 -v -timeout 8m -parallel 16 ./sim -seeds=60)

sim: build ## one seeded run of a fleet over three virtual days: SEED (1)
	@bin/coinop-sim run --seed $(SEED)

soak: build ## COUNT (300) seeds from SEED (1) on, then ten minutes of the demo
	@bin/coinop-sim run --seed $(SEED) --count $(COUNT)
	@bin/coinop-sim demo --for 10m --seed $(SEED)

defences: ## take each defence away once and see the law that breaks (docs/defences.md)
	$(GO) test -tags defences -count=1 -v -timeout 30m -run TestDefences ./sim

fuzz: ## every fuzz target for FUZZ_TIME (30s)
	@$(GO) list -f '{{.Dir}} {{.ImportPath}}' ./... | while read -r dir path; do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go 2>/dev/null | awk '{print $$2}'); do \
	    echo "== $$path $$f"; $(GO) test $$path -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x; done; done

bench: build ## figures beside their limits, as a table and as out/bench.json
	@bin/coinop-sim bench --out out/bench.json
