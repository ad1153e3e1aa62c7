# Fanfare. `make help` lists what there is; `make run` and `make test` are the two commands.
GO   ?= go
LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
RACE ?=
RACEFLAG := $(if $(RACE),-race)
PACKAGES ?= 1
PARALLEL ?= 4
FUZZTIME ?= 20s
SEED ?= 1
MINUTES ?= 15
# Modules of their own, so that their libraries are no dependencies of Fanfare. -mod=mod: their go.mod follows Fanfare's.
MODULES := deploy/release deploy/check deploy/clients

.PHONY: help run demo test race attack chaos check fuzz bench generate verify release push scaling

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

run: ## start everything: NATS, Postgres, all roles, the API on 127.0.0.1:8080
	@$(GO) build -o fanfare ./cmd/fanfare # `go run` would answer Ctrl-C with an error of its own.
	@exec ./fanfare all

demo: ## publish a few hundred events to endpoints that work, fail twice or never work
	$(GO) run ./cmd/fanfare demo

test: ## run every test, with the servers that they need (RACE=1: with the race detector; PACKAGES=n: n packages at once; PARALLEL=n: n tests of each)
	@$(GO) build $(RACEFLAG) ./... # on every core; -p below counts compilers too
	$(GO) test $(RACEFLAG) -p $(PACKAGES) -parallel $(PARALLEL) -timeout 40m ./...
	@for module in $(MODULES); do (cd $$module && $(GO) test -mod=mod -timeout 25m ./...) || exit 1; done

race: ## run every test with the race detector
	$(MAKE) test RACE=1 PARALLEL=2

attack: ## attack a victim tenant in every known way and print what it noticed; takes some ten minutes
	$(GO) test ./internal/attack -run '^TestAttack$$' -count 1 -timeout 60m -v -attack.long

chaos: ## break a running installation by SEED (1) for MINUTES (15), and check that every promise holds
	$(GO) test ./internal/chaos -run '^Test(Chaos|CrashPoints|PowerCut|FullDisk|Slow|Cluster|Minority|Failover|Upgrade|Downgrade|NATSVersions)$$' -count 1 -timeout $$(($(MINUTES) + 30))m -v -chaos.seed $(SEED) -chaos.minutes $(MINUTES)

check: ## hold the house style: formatting, vet, linters, import arrows
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt would change:" $$unformatted; exit 1; fi
	$(GO) vet ./...
	@for module in $(MODULES); do (cd $$module && $(GO) vet -mod=mod ./...) || exit 1; done
	$(LINT) run --allow-parallel-runners ./...
	$(GO) test -run '^TestArrows' ./cmd/fanfare

fuzz: ## fuzz each fuzz test for FUZZTIME (20s)
	@grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -rn1 dirname | sort -u | while read -r dir; do \
	  for name in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -c6-); do \
	    echo "fuzz $$dir $$name"; $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$dir || exit 1; \
	  done; done

bench: ## measure the whole pipeline against a bare loop of the same POSTs, on this machine
	$(GO) run ./cmd/fanfare bench

generate: ## write the generated files anew: deploy/topology.json, docs/openapi.json
	$(GO) run ./cmd/fanfare topology print --json > deploy/topology.json.new
	mv deploy/topology.json.new deploy/topology.json
	$(GO) run ./cmd/fanfare openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

verify: generate ## fail if a generated file was not up to date
	git diff --exit-code -- deploy/topology.json docs/openapi.json

scaling: ## scale fanout and deliver 1 -> 8 -> 2 under load, replace each role, and count what arrived
	cd deploy/check && $(GO) test -mod=mod -run '^TestScaling$$' -count 1 -v -timeout 30m . -scaling.most 8 -scaling.rate 100

release: ## build every artifact of a release into dist (SNAPSHOT=1: of a commit without a tag; ONLY=linux/amd64,...)
	cd deploy/release && $(GO) run . $(if $(SNAPSHOT),-snapshot) $(if $(ONLY),-only $(ONLY))

push: ## push dist's image to a registry (IMAGE=registry/name:tag, with REGISTRY_USER and TOKEN where it asks for them)
	cd deploy/release && $(GO) run . -push $(IMAGE)
