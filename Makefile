# What a developer types. Tests on real hosts need root on a Debian machine;
# ASTRA_SKIP_HOST_TESTS=1 leaves them out.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help test check unit-test host-test demo shell bench campaign clean

run := $(shell command -v cargo-nextest >/dev/null && echo nextest run || echo test)
# All tests in Cargo.toml but those on hosts.
tests := $(filter-out host,$(shell awk '/^\[/ { test = /^\[\[test\]\]/ } test && /^name/ { gsub(/"/, "", $$3); print $$3 }' Cargo.toml))

ifeq ($(shell command -v cargo),)
ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
$(error cargo is missing: get it from https://rustup.rs)
endif
endif

help:
	@echo 'make test    format, lints, unit tests, tests on real hosts (root, Debian)'
	@echo 'make demo    watch a deploy on a throw-away host'
	@echo 'make shell   a shell on a throw-away host with the agent installed'
	@echo 'make bench   measure'
	@echo 'make campaign        prove the claims of docs/proof.md, and write it (hours; campaign-short: in small)'
	@echo 'make clean   delete all that was built'

test: check unit-test host-test

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

unit-test:
	cargo $(run) --lib --bins $(tests:%=--test %)

ifeq ($(ASTRA_SKIP_HOST_TESTS),1)
host-test:
	@echo 'host tests skipped: ASTRA_SKIP_HOST_TESTS=1'
else
host-test:
	tests/host/build
	cargo build --example load
	cargo $(run) --test host
endif

demo:
	tests/host/demo

shell:
	cargo build
	tests/host/host boot shell --keep --bin target/debug/astra-agent >/dev/null
	trap 'tests/host/host off shell' EXIT; tests/host/host sh shell || true

bench:
	tests/bench/run

# Parts: load baseline kills faults cuts fuzz report; campaign-new forgets the results.
campaign:
	tests/campaign/run all

campaign-%:
	tests/campaign/run $*

clean:
	tests/host/host clean
	cargo clean
