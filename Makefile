# make help lists the targets.
SHELL := /bin/bash
GO ?= go
SHARED ?= ../shared
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE ?= websopy/relay
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The race detector needs cgo and a C compiler; a machine with Go alone may have none.
RACE := $(shell [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC)" >/dev/null && echo -race)

.DEFAULT_GOAL := help
.PHONY: chart help run build test test-go test-peers test-sdk clients lint bench fuzz chaos conformance field docker image test-image

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

run: ## serve on :8080; without settings the demo provider answers
	$(GO) run ./cmd/relay

# gRPC, which is here for the types of OTLP alone, has pages of its own made with templates, and a template may call any
# method of anything: without grpcnotrace the linker keeps them all, and the binary is 35 MB and not 21.
build: ## make bin/relay, a static binary
	CGO_ENABLED=0 $(GO) build -tags grpcnotrace -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/relay ./cmd/relay

test: test-go test-peers test-sdk test-frameworks ## all tests that this machine can run; says what it skips

test-go: ## the Go tests
	@$(if $(RACE),:,echo "SKIPPED: the race detector, because there is no C compiler")
	@command -v redis-server >/dev/null || echo "SKIPPED: the tests with Redis, because redis-server is not installed"
	@for found in redis-server-6.2:$$RELAY_TEST_REDIS_62 valkey-server:$$RELAY_TEST_VALKEY; do name=$${found%%:*}; \
		[ -n "$${found#*:}" ] || command -v $$name >/dev/null || \
		echo "SKIPPED: the log in another Redis, because $$name is not installed"; done
	@for name in nginx haproxy caddy envoy; do command -v $$name >/dev/null || \
		echo "SKIPPED: relays behind $$name, because it is not installed"; done
	@command -v promtool >/dev/null || echo "SKIPPED: the alerts, because promtool (prometheus) is not installed"
	$(GO) test -timeout 20m $(RACE) $(GOTESTFLAGS) ./...

test-peers: ## the providers' formats against the providers' own Go SDKs
	cd internal/upstream/sdktest && $(GO) test $(GOTESTFLAGS) ./...

test-sdk: ## the SDK's tests, if npm is there
	@if [ ! -f sdk/package.json ]; then echo "SKIPPED: the SDK's tests: there is no sdk/"; \
	elif command -v npm >/dev/null; then cd sdk && npm ci --silent && npm test; \
	else echo "SKIPPED: the SDK's tests, because npm is not installed"; fi

clients: build ## programs that people have, unchanged, against bin/relay
	@if [ "$$(uname -sm)" != "Linux x86_64" ]; then echo "SKIPPED: the clients, which are installed for Linux on x86-64"; \
	elif ! command -v npm >/dev/null; then echo "SKIPPED: the clients, because npm is not installed"; \
	elif ! python3 -c 'import ensurepip' 2>/dev/null; then echo "SKIPPED: the clients, because Python is not installed"; \
	else cd test/clients && npm ci --silent && npm test && (cd ui && npm ci --silent && npm test) && \
		python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt && \
		.venv/bin/pip install -q --no-deps --upgrade --target .venv/older openai==1.109.1 && \
		OLDER_OPENAI=$$PWD/.venv/older .venv/bin/python -W ignore -m unittest clients_test; fi

WAY ?=
test-frameworks: ## the relay behind Express, Next.js, Nitro and Vite, if npm's registry is there (WAY=Next)
	@cd test/frameworks; skip="SKIPPED: the tests behind Express, Next.js, Nitro and Vite, because"; \
	if ! command -v npm >/dev/null; then echo "$$skip npm is not installed"; \
	elif ! { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --loglevel=error; }; then \
		echo "$$skip npm's registry is not there"; \
	else { [ -d ../../sdk/node_modules ] || (cd ../../sdk && npm ci --silent); } && WAY='$(WAY)' npm test; fi

CHURN ?= 20m
CHAOS ?= .
chaos: ## replicas and Redis on bad days, half an hour (CHURN=20m, CHAOS=a test's name)
	RELAY_CHURN=$(CHURN) $(GO) test -tags chaos -run 'TestChaos.*$(CHAOS)' -v -count=1 -timeout 3h ./test/replicas

lint: ## gofmt, go vet, go mod tidy and golangci-lint
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags chaos ./test/replicas
	$(GO) mod tidy -diff
	cd internal/upstream/sdktest && $(GO) vet ./... && $(GO) mod tidy -diff
	$(GO) run $(GOLANGCI) run --allow-parallel-runners ./...

bench: ## Go benchmarks of what every chunk passes through
	$(GO) test -run '^$$' -bench . -benchmem ./...

# At the end of its time the fuzzer of Go sometimes takes the end for a failure, "context deadline exceeded", which has
# no input that fails: then a target has its time once more.
FUZZTIME ?= 5s
fuzz: ## every fuzz target for FUZZTIME (5s)
	@set -e; $(GO) list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go 2>/dev/null | sed 's/^func //'); do \
			echo "$$pkg $$target"; \
			run() { $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -parallel "$$(nproc)" $$pkg 2>&1; }; \
			out=$$(run) && echo "$$out" && continue; echo "$$out"; \
			case $$out in *"Failing input"*) exit 1 ;; *"    context deadline exceeded"*) run ;; *) exit 1 ;; esac; \
		done; \
	done

conformance: build ## recorded provider streams through bin/relay, if the recordings are there
	@if [ -d $(SHARED)/conformance ]; then \
		bin=$$PWD/bin/relay && cd $(SHARED)/conformance && $(GO) run . -relay $$bin -corpus ../corpus; \
	else echo "SKIPPED: conformance, because there is no $(SHARED)/conformance"; fi

# Four of the reports want upstream_rejected for a conversation that is too long. It has a code of its own since
# (docs/protocol.md, 4), because clients compact on it: here they want that one.
TOO_LONG := 08a-responses-failed-context-length 08c-responses-nested-error-context-length \
	14-claude-prompt-too-long 91-error-type-and-message-chunk
DIALECTS ?= chat responses messages ui agui
# One case at a time: two that find the same port free at once would both ask the relay that gets it.
FIELD := --workers 1
field: build ## public bug reports as cases for bin/relay, if they are there
	@if [ -d $(SHARED)/field ]; then \
		cases=$$(mktemp -d) && trap 'rm -r "$$cases"' EXIT && cp -r --no-preserve=mode $(SHARED)/field/cases/. "$$cases" && \
		for case in $(TOO_LONG); do \
			sed -i 's/"code": *"upstream_rejected"/"code": "context_length_exceeded"/' "$$cases/$$case/case.json"; \
		done && python3 $(SHARED)/field/run.py --relay bin/relay --cases "$$cases" $(FIELD) && \
		for dialect in $(DIALECTS); do \
			echo "as clients of $$dialect:"; \
			python3 test/field/dialects.py $(SHARED)/field/run.py $$dialect --relay bin/relay --cases "$$cases" $(FIELD) || exit 1; \
		done; \
	else echo "SKIPPED: the reports from the field, because there is no $(SHARED)/field"; fi

image: ## make the image without a daemon, reproducibly, with its SBOM, in bin/image
	cd deploy/image && $(GO) run . -version $(VERSION) -epoch $$(git log -1 --format=%ct) -out ../../bin/image

test-image: ## make the image at two places, and compare
	cd deploy/image && $(GO) test $(GOTESTFLAGS) ./...

# Helm is compiled once (3 minutes of processor time) and kept in bin/.
HELM := helm.sh/helm/v4/cmd/helm@v4.3.1
KUBERNETES_VALIDATE := kubernetes-validate==1.37.0
chart: ## check the Helm chart as a cluster would, without one
	@test -x bin/helm || { echo "compiling helm, once"; GOBIN=$$PWD/bin $(GO) install $(HELM); }
	@test -x bin/python/bin/kubernetes-validate || \
		{ python3 -m venv bin/python && bin/python/bin/pip install -q $(KUBERNETES_VALIDATE); }
	cd test/chart && PATH=$$PWD/../../bin:$$PWD/../../bin/python/bin:$$PATH $(GO) test -count=1 $(GOTESTFLAGS) ./...

docker: ## build the container image
	docker build --build-arg VERSION=$(VERSION) -t $(IMAGE):$(VERSION) .
