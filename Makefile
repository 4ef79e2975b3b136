# The two commands of the README are `make demo` and `make test`. Everything
# they need is installed or built by them; nothing is expected beyond Debian,
# Go, gcc, npm and root.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
OUT     := out
# The cache holds what is expensive and keyed by its recipe: payload, lab roots.
export PLINTH_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/plinth

# Lab hosts keep their disks in memory where there is plenty: twenty times
# quicker than a disk that builds are using.
export LAB_DISKS ?= $(shell [ "$$(df --output=avail -k /dev/shm 2>/dev/null | tail -n1)" -gt 8000000 ] 2>/dev/null && echo /dev/shm)

PLINTH  := $(OUT)/plinth
PAYLOAD := $(OUT)/payload
BUNDLE  := $(OUT)/my-app.bundle
# A throw-away key stands for the vendor's; the executable that the vendor
# ships knows its public half.
KEY     := $(OUT)/vendor.key
PUB     := $(OUT)/vendor.pub
SHIPPED := $(OUT)/my-plinth

# The program's text starts one page off a multiple of 2 MB: the kernel then
# maps the pages that a command touches, not a huge page around each.
TEXT = $(if $(filter amd64,$(shell go env GOARCH)),-T 0x402000)

# Tools of `make verify`, pinned; Go checks them against its checksum database.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
ERRCHECK    := github.com/kisielk/errcheck@v1.9.0

# need installs Debian packages unless the command that the first is named after is there.
need = type -P $(firstword $(1)) >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(1); }

.PHONY: help
help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

.PHONY: demo
demo: bundle ## build everything from source and install it on a throw-away host
	scripts/lab/demo $(SHIPPED) $(BUNDLE)

.PHONY: test
test: verify test-unit test-e2e ## all that CI runs

.PHONY: build
build: ## the host binary, in out/plinth
	@# The tag and the lack of inlining in Kubernetes' packages keep it small:
	@# every command pays for the pages of the binary that it touches.
	CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -gcflags 'k8s.io/...=-l' -ldflags '-s -w $(TEXT) -X main.version=$(VERSION)' -o $(PLINTH) ./cmd/plinth

.PHONY: payload
payload: ## every upstream part, built from source, as an OCI layout in the cache
	@mkdir -p $(OUT)
	dir=$$(go run ./distro/cmd/payload)
	ln -sfn "$$dir" $(PAYLOAD)

.PHONY: payload-verify
payload-verify: ## build the payload a second time and compare every digest
	go run ./distro/cmd/payload verify

.PHONY: payload-repin
payload-repin: ## pin the Debian packages that the mirror has now
	go run ./distro/cmd/payload repin

.PHONY: bundle
bundle: build payload ## the signed bundle of the example application, in out/my-app.bundle
	$(call need,openssl)
	test -s $(KEY) || (umask 077; openssl ecparam -name prime256v1 -genkey -noout -out $(KEY))
	openssl pkey -in $(KEY) -pubout -out $(PUB)
	$(PLINTH) bundle build --installer installer.yaml --application e2e/testdata/application.yaml --source $(PAYLOAD) \
		--sign-key $(KEY) --release 1 -o $(BUNDLE)
	$(PLINTH) seal --verify-key $(PUB) -o $(SHIPPED)

.PHONY: test-unit
test-unit: ## unit tests with the race detector, and some thousand inputs for each fuzz target
	$(call need,openssl)
	$(call need,curl ca-certificates)
	$(call need,wget)
	$(call need,skopeo)
	go test -race ./...
	go test ./internal/app/reset # whose simulation has no races, and too many cases for their detector
	scripts/fuzz-smoke 5000x

.PHONY: test-e2e
test-e2e: bundle ## installs on real throw-away hosts; needs root
	$(call need,chromium fonts-liberation)
	$(call need,time)
	scripts/lab/lab root
	scripts/lab/selftest
	PLINTH_E2E_BINARY=$(abspath $(PLINTH)) PLINTH_E2E_BUNDLE=$(abspath $(BUNDLE)) PLINTH_E2E_PAYLOAD=$(abspath $(PAYLOAD)) \
		go test -tags e2e -count=1 -p 1 -timeout 60m -v ./e2e/...

.PHONY: test-drill
test-drill: bundle ## of test-e2e only one install and one reset, killed at every boundary and at random moments
	PLINTH_E2E_BINARY=$(abspath $(PLINTH)) PLINTH_E2E_BUNDLE=$(abspath $(BUNDLE)) PLINTH_E2E_PAYLOAD=$(abspath $(PAYLOAD)) \
		go test -tags e2e -count=1 -timeout 60m -v -run TestInstall_SurvivesKills ./e2e/

.PHONY: verify
verify: ## formatting, vet, linters, shellcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go'))
	if [[ -n "$$unformatted" ]]; then echo "not gofmt'ed: $$unformatted" >&2; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...
	go run $(ERRCHECK) -exclude .ci/errcheck-exclude -ignoretests ./...
	$(call need,shellcheck)
	git ls-files | xargs grep -lE '^#!.*\b(ba)?sh\b' | xargs shellcheck -x

.PHONY: bench
bench: bundle ## ratios against bare k0s on one host; needs root
	$(call need,time)
	PLINTH_E2E_BINARY=$(abspath $(PLINTH)) PLINTH_E2E_BUNDLE=$(abspath $(BUNDLE)) PLINTH_E2E_PAYLOAD=$(abspath $(PAYLOAD)) \
		go test -tags bench -count=1 -timeout 60m -v -run TestBench ./e2e/

.PHONY: bench-delta
bench-delta: bundle ## size of a delta between two patch versions of KOTS; some minutes the first time
	scripts/bench-delta $(PLINTH) $(BUNDLE)

.PHONY: golden
golden: ## rewrite golden files and generated docs; read the diff
	go test ./... -run 'Golden|Docs|Schema|Reference' -update

.PHONY: clean
clean: ## what was built in the checkout; the cache stays
	rm -rf $(OUT)
