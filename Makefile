# The two main commands are `make demo` and `make test`. They require Debian, Go, gcc, npm and
# root, and install or build everything else.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
OUT     := out
# The cache stores what is expensive to build: the payload and the roots of lab hosts, by the hash of their inputs.
export PLINTH_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/plinth

# Without the path of the checkout in them, packages and test programs that one checkout has compiled serve the others.
export GOFLAGS ?= -trimpath

# The disks of lab hosts are in memory if there is enough of it: twenty times
# faster than a disk that is busy with builds.
export LAB_DISKS ?= $(shell [ "$$(df --output=avail -k /dev/shm 2>/dev/null | tail -n1)" -gt 8000000 ] 2>/dev/null && echo /dev/shm)

PLINTH  := $(OUT)/plinth
PAYLOAD_DIR := $(OUT)/payload
BUNDLE  := $(OUT)/my-app.bundle
# A disposable key takes the place of the vendor's key. The executable that the vendor
# ships contains the public key.
KEY     := $(OUT)/vendor.key
PUB     := $(OUT)/vendor.pub
SHIPPED := $(OUT)/my-plinth

# The text segment starts one page after a multiple of 2 MB. The kernel then
# maps only the pages that a command uses, not a huge page around each of them.
TEXT = $(if $(filter amd64,$(shell go env GOARCH)),-T 0x402000)

# Pinned linter of `make verify`. Go verifies it against its checksum database.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

# The Go release whose standard library the shipped executables contain: the newest patch of go.mod's
# version, because older ones have known vulnerabilities. It is part of the payload's cache keys.
GO_RELEASE := go1.26.10

# compile builds the plinth executable: $(call compile,linker flags,file). The tag grpcnotrace, and no inlining in
# large modules that do little work, keep it small: every command has to load the pages of the executable that it uses.
TAGS := grpcnotrace
NOT_INLINED := k8s.io sigs.k8s.io helm.sh go.etcd.io google.golang.org github.com/google/gnostic-models github.com/k0sproject
compile = GOTOOLCHAIN=$(GO_RELEASE) CGO_ENABLED=0 go build -trimpath -tags $(TAGS) $(foreach m,$(NOT_INLINED),-gcflags '$(m)/...=-l') -ldflags '$(1)' -o $(2) ./cmd/plinth

# need installs Debian packages, unless there is a command with the name of the first one, or a given
# other one: $(call need,packages,command).
need = type -P $(firstword $(2) $(1)) >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(1); }

.PHONY: help
help: ## show this help
	@grep -hE '^[a-z0-9%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

# What make demo installs: "source" compiles every component, "upstream" downloads the releases. By default they are
# downloaded where they can be.
PAYLOAD ?=

.PHONY: demo
demo: ## install the example on a disposable host; PAYLOAD=upstream downloads its parts, PAYLOAD=source compiles them
	from="$(PAYLOAD)"
	[ -n "$$from" ] || { $(call need,curl ca-certificates) && scripts/upstream-answers && from=upstream || from=source; }
	case "$$from" in
		upstream) echo "The releases of k0s, KOTS and their images are downloaded (make demo PAYLOAD=source compiles them)." ;;
		source) echo "k0s, KOTS and their images are compiled from source (make demo PAYLOAD=upstream downloads the releases)." ;;
		*) echo "PAYLOAD is source or upstream, not $$from" >&2; exit 2 ;;
	esac
	$(MAKE) bundle PAYLOAD="$$from"
	scripts/lab/demo $(SHIPPED) $(BUNDLE)

.PHONY: demo-app
demo-app: ## install the application of the tests, with its license, on the host of make demo
	scripts/lab/demo-app $(abspath $(PAYLOAD_DIR))

.PHONY: test
test: verify test-unit test-e2e ## run everything that CI runs

.PHONY: build
build: ## build the plinth executable in out/plinth
	$(call compile,-s -w $(TEXT) -X main.version=$(VERSION),$(PLINTH))

.PHONY: build-all
build-all: ## build the plinth executable for every platform in out/plinth-linux-*
	for arch in amd64 arm64; do GOOS=linux GOARCH=$$arch $(MAKE) build PLINTH=$(OUT)/plinth-linux-$$arch; done

.PHONY: build-devstates
build-devstates: TAGS := grpcnotrace,devstates
build-devstates: ## build a program for tests that installs development states of k0s, in out/plinth-devstates
	$(call compile,-s -w $(TEXT) -X main.version=$(VERSION)-devstates,$(OUT)/plinth-devstates)

.PHONY: payload
payload: ## build every upstream component from source, as an OCI layout in the cache
	@mkdir -p $(OUT)
	dir=$$(GOTOOLCHAIN=$(GO_RELEASE) go run ./distro/cmd/payload)
	ln -sfn "$$dir" $(PAYLOAD_DIR)

payload-%: FORCE ## build a variant of the payload, a file in distro/variants, with a link at out/payload-%
	@mkdir -p $(OUT)
	dir=$$(GOTOOLCHAIN=$(GO_RELEASE) go run ./distro/cmd/payload --variant $*)
	ln -sfn "$$dir" $(PAYLOAD_DIR)-$*

.PHONY: FORCE
FORCE:

.PHONY: payload-verify
payload-verify: ## build the payload a second time and compare every digest
	GOTOOLCHAIN=$(GO_RELEASE) go run ./distro/cmd/payload verify

.PHONY: payload-vulns
payload-vulns: payload ## scan the built payload for known vulnerabilities, write docs/reference/vulnerabilities.md
	GOTOOLCHAIN=$(GO_RELEASE) go run ./distro/cmd/vulns payload docs/reference/vulnerabilities.md

.PHONY: payload-repin
payload-repin: ## pin the current Debian packages of the mirror
	go run ./distro/cmd/payload repin

# The lock file beside installer.yaml has the digests of what is compiled; a copy elsewhere gets its own lock file.
INSTALLER := $(if $(filter upstream,$(PAYLOAD)),$(OUT)/upstream.yaml,installer.yaml)

# Where the releases are downloaded instead, such as --mirrors FILE --releases URL.
MIRROR_FLAGS ?=

.PHONY: payload-upstream
payload-upstream: INSTALLER := $(OUT)/upstream.yaml
payload-upstream: build ## download the upstream releases of every component, as an OCI layout in the cache
	dir=$$PLINTH_CACHE/upstream
	mkdir -p "$$dir"
	cp installer.yaml $(INSTALLER)
	$(PLINTH) bundle mirror --installer $(INSTALLER) $(MIRROR_FLAGS) "$$dir"
	ln -sfn "$$dir" $(PAYLOAD_DIR)

.PHONY: bundle
bundle: build $(if $(filter upstream,$(PAYLOAD)),payload-upstream,payload) ## build the signed bundle of the example application in out/my-app.bundle
	$(call need,openssl)
	test -s $(KEY) || (umask 077; openssl ecparam -name prime256v1 -genkey -noout -out $(KEY))
	openssl pkey -in $(KEY) -pubout -out $(PUB)
	$(PLINTH) bundle build --installer $(INSTALLER) --application e2e/testdata/application.yaml --source $(PAYLOAD_DIR) \
		--sign-key $(KEY) --release 1 --output-file $(BUNDLE)
	$(PLINTH) bundle embed --verify-key $(PUB) --output-file $(SHIPPED)

.PHONY: test-unit
test-unit: ## run unit tests with the race detector, and each fuzz target on some thousand inputs
	$(call need,openssl)
	$(call need,curl ca-certificates)
	$(call need,wget)
	$(call need,skopeo)
	$(call need,iptables nftables)
	go test -race -timeout 30m ./...
	go test -tags devstates -run TestIsInstallable ./internal/spec
	go test ./internal/action/install ./internal/action/repair ./internal/action/reset ./internal/action/upgrade # single-threaded simulations with too many cases for the race detector
	scripts/fuzz-smoke 5000x

.PHONY: test-e2e
test-e2e: SHORT := -short
test-e2e: lab-tests ## run the e2e tests on real disposable hosts; requires root

.PHONY: test-long
test-long: LIMIT := 6h
test-long: build-all build-devstates emulator payload-add-ons payload-k0s-1.33.6 payload-k0s-1.35-dev payload-k0s-1.36-dev lab-tests ## run the e2e tests with all their repetitions

.PHONY: emulator
emulator:
	$(call need,qemu-user,qemu-aarch64)

.PHONY: lab-tests
lab-tests: bundle payload-older
	$(call need,chromium fonts-liberation)
	$(call need,time)
	$(call need,jq)
	$(call need,tinyproxy-bin,tinyproxy)
	scripts/notice $(PLINTH) $(BUNDLE) | diff -u NOTICE - # if it differs: make notice
	scripts/lab/lab root
	scripts/lab/selftest
	PLINTH_E2E_BINARY=$(abspath $(PLINTH)) PLINTH_E2E_BUNDLE=$(abspath $(BUNDLE)) PLINTH_E2E_PAYLOAD=$(abspath $(PAYLOAD_DIR)) \
		PLINTH_E2E_ARM64=$(abspath $(OUT)/plinth-linux-arm64) PLINTH_E2E_PAYLOAD_OLDER=$(abspath $(PAYLOAD_DIR)-older) \
		PLINTH_E2E_PAYLOAD_K0S=$(abspath $(PAYLOAD_DIR)-k0s-1.33.6) PLINTH_E2E_PAYLOAD_ADD_ONS=$(abspath $(PAYLOAD_DIR)-add-ons) \
		PLINTH_E2E_DEVSTATES=$(abspath $(OUT)/plinth-devstates) PLINTH_E2E_PAYLOAD_K0S_1_35=$(abspath $(PAYLOAD_DIR)-k0s-1.35-dev) \
		PLINTH_E2E_PAYLOAD_K0S_1_36=$(abspath $(PAYLOAD_DIR)-k0s-1.36-dev) \
		go test -tags e2e -count=1 -p 1 -parallel 2 -timeout $(or $(LIMIT),2h) -v $(SHORT) ./e2e/... | scripts/test-times

.PHONY: test-faults
test-faults: bundle ## run only the e2e test that kills an install and a reset at every step and at random times
	PLINTH_E2E_BINARY=$(abspath $(PLINTH)) PLINTH_E2E_BUNDLE=$(abspath $(BUNDLE)) PLINTH_E2E_PAYLOAD=$(abspath $(PAYLOAD_DIR)) \
		go test -tags e2e -count=1 -timeout 60m -v -run TestInstall_SurvivesKills ./e2e/

.PHONY: verify
verify: vulns ## run golangci-lint, the list of words, shellcheck and the vulnerability gate
	scripts/lint $(GOLANGCI_LINT)
	go vet -tags bench ./e2e/
	scripts/check-words
	$(call need,shellcheck)
	git ls-files | xargs awk 'FNR == 1 && /^#!.*[\/ ](ba)?sh( |$$)/ {print FILENAME}' | xargs shellcheck -x

.PHONY: vulns
vulns: ## fail on known vulnerabilities of the plinth executable that distro/vulnerabilities.yaml does not except
	@# With a symbol table, which the shipped executable lacks, the scanner finds the functions that are linked.
	mkdir -p $(OUT)
	$(call compile,,$(OUT)/plinth.symbols)
	go run ./distro/cmd/vulns host $(OUT)/plinth.symbols

.PHONY: bench
bench: bundle payload-older ## measure ratios against plain k0s on one host; requires root
	$(call need,time)
	PLINTH_E2E_BINARY=$(abspath $(PLINTH)) PLINTH_E2E_BUNDLE=$(abspath $(BUNDLE)) PLINTH_E2E_PAYLOAD=$(abspath $(PAYLOAD_DIR)) \
		PLINTH_E2E_PAYLOAD_OLDER=$(abspath $(PAYLOAD_DIR)-older) \
		go test -tags bench -count=1 -timeout 2h -v -run TestBench ./e2e/

.PHONY: bench-delta
bench-delta: bundle ## measure the size of a delta between two patch versions of KOTS; some minutes the first time
	GOTOOLCHAIN=$(GO_RELEASE) scripts/bench-delta $(PLINTH) $(BUNDLE)

.PHONY: golden
golden: ## rewrite golden files and generated docs; review the diff
	go test $$(grep -rl --include='*_test.go' 'testkit\.Golden(' . | xargs -n1 dirname | sort -u) -update

.PHONY: notice
notice: bundle ## rewrite NOTICE from the SBOM of the example's bundle
	$(call need,jq)
	scripts/notice $(PLINTH) $(BUNDLE) >NOTICE

.PHONY: clean
clean: ## remove the build output of this checkout, but not the cache
	rm -rf $(OUT)
