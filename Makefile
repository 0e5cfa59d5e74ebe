# signet. `make help` lists the targets; CONTRIBUTING.md tells when to use which.
SHELL       := /bin/bash
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO          ?= go
GOBUILD     := $(GO) build -trimpath -buildvcs=false -ldflags='-s -w -buildid= -X main.version=$(VERSION)'
TOOL        := $(GO) tool -modfile=tools/go.mod
FUZZTIME    ?= 30s
ARGS        ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/signet and the offline bin/ceremony
	@$(GOBUILD) -o bin/signet ./cmd/signet
	@$(GOBUILD) -o bin/ceremony ./cmd/ceremony

.PHONY: run
run: deps build ## Install what is missing, build, and run `signet dev` (ARGS=... adds flags)
	@exec bin/signet dev $(ARGS)

.PHONY: test
test: deps-test ## Run every test with the race detector against real PostgreSQL and SoftHSM
	$(GO) vet -race ./...
	$(GO) test -race -count=1 -timeout=10m -ldflags='-s -w' ./...

.PHONY: check
check: lint verify test ## Everything a reviewer will ask for: format, staticcheck, generated code, tests

.PHONY: lint
lint: ## gofumpt and staticcheck, pinned in tools/go.mod
	@out=$$($(TOOL) gofumpt -l $$(git ls-files '*.go' | grep -v -e '\.pb\.go$$' -e '\.gen\.go$$')); \
	  if [ -n "$$out" ]; then echo "not gofumpt-formatted:"; echo "$$out"; exit 1; fi
	$(TOOL) staticcheck ./...
	$(GO) vet -tags=signet_journal ./registration

.PHONY: bench
bench: deps ## Measure against peers and limits; writes benchmarks/RESULTS.md and charts (15 minutes; ARGS=-only=hsm)
	$(GO) run ./benchmarks/run $(ARGS)

.PHONY: bench-quick
bench-quick: deps ## The same with fewer rounds and sizes, into bin/bench-quick (2 minutes)
	$(GO) run ./benchmarks/run -quick -dir bin/bench-quick $(ARGS)

.PHONY: bench-go
bench-go: deps ## Go's own benchmarks of the hot packages
	$(GO) test -run='^$$' -bench=. -benchmem ./signature ./hsm ./hsm/broker ./registration ./token ./ca/... ./api/... ./internal/envelope ./internal/group

.PHONY: soak
soak: deps-test ## The long forms of tests: 100,000 raced verdicts, SIGKILLs, 10,000 certificates (an hour)
	SIGNET_SOAK=1 SIGNET_LONG=1 $(GO) test -count=1 -timeout=90m -v \
	  -run='TestVerdictsAreLinearizable|TestPAAUTH01_SigkillLosesNoVerdict|TestPAAUTH01_TwoNodesAcceptASignatureOnce' ./cmd/signet
	SIGNET_LONG=1 $(GO) test -count=1 -timeout=90m -v -run='CrashAtRandom|RandomCertificates' ./ca ./ca/lint

.PHONY: hsm-matrix
hsm-matrix: deps ## The HSM contract on SoftHSM2, NSS, opencryptoki and tpm2-pkcs11 (installs them; docs/hsm-modules.md)
	@tools/hsm-matrix.sh

.PHONY: faults
faults: deps-test ## The faults of the HSM, 20 seeds each, and 50 kills of its workers (benchmarks/RESULTS.md has the figures)
	SIGNET_LONG=1 $(GO) test -count=1 -timeout=60m -v ./hsm/hsmtest/faultmodule
	SIGNET_LONG=1 $(GO) test -count=1 -timeout=60m -v -run='Fault[0-9]' ./internal/ownkey ./app ./ca
	SIGNET_LONG=1 $(GO) test -count=1 -timeout=10m -v -run='KilledUnderLoad|LostSessions' ./hsm/broker
	SIGNET_LONG=1 $(GO) test -count=1 -timeout=10m -v -run=TestHSMFailsUnderTheService ./cmd/signet

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (default 30s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list='^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; $(GO) test -run='^$$' -fuzz="^$$f$$" -fuzztime=$(FUZZTIME) $$pkg; done; done

.PHONY: gen
gen: ## Regenerate protobuf code and REST models (needs protoc)
	@tools/gen.sh

.PHONY: verify
verify: ## Regenerate in a scratch copy and fail on a difference; verify module sums
	@tools/verify.sh
	$(GO) mod verify

.PHONY: deps
deps: ## Install the Debian packages that signet needs (apt when root, else they are named)
	@tools/deps.sh

.PHONY: deps-test
deps-test: ## The same with what only the tests need: GnuTLS, NSS and Java tools
	@tools/deps.sh test

.PHONY: clean
clean: ## Remove build output and the default dev folder (.signet)
	rm -rf bin .signet
