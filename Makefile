# All that a person types. The work is in scripts/*.sh; each says in its header what it does.
# YES=1 (or CI=true) answers yes to every question about installing something.
.PHONY: help up testbed console test test-full lint bench dist clean deps images
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F'\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

up: ## installs what is missing, builds, starts server and agent on this machine
	@scripts/up.sh $(ARGS)

testbed: ## builds, starts a server and N=3 nodes on this machine, each with a network and an engine of its own
	@scripts/testbed.sh $(if $(N),--nodes $(N)) $(ARGS)

console: ## builds, starts a server and nodes with something to see, for work on the web console
	@scripts/console.sh cluster

test: ## what CI checks: format, lints, licences, all tests on a real Docker
	@scripts/test.sh

test-full: ## the same, and the long tests
	@scripts/test.sh full

lint: ## format, lints and licences alone
	@scripts/test.sh lint

bench: ## all benchmarks, or one: make bench ONLY=store-writes
	@scripts/bench.sh "$(ONLY)"

dist: ## release archives with checksums in dist/
	@scripts/dist.sh

clean: ## removes what was built, and what tests left in Docker
	@scripts/clean.sh

deps: ## installs what building, running and testing need
	@scripts/deps.sh build run test

images: ## the container images of the tests, built on this machine
	@scripts/engine.sh start
	@scripts/images.sh
