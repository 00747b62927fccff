# What a developer types. Tests on real hosts need root on a Debian machine;
# ASTRA_SKIP_HOST_TESTS=1 leaves them out.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help test needs check unit-test scenarios host-test vm demo shell bench packages campaign clean

run := $(shell command -v cargo-nextest >/dev/null && echo nextest run || echo test)
# A host mostly waits: three on two cores. (.config/nextest.toml says which tests need more.)
hosts := $(if $(filter nextest,$(run)),--test-threads $(shell echo $$(( $$(nproc) * 3 / 2 ))))
# All tests in Cargo.toml but those on hosts.
tests := $(filter-out host,$(shell awk '/^\[/ { test = /^\[\[test\]\]/ } test && /^name/ { gsub(/"/, "", $$3); print $$3 }' Cargo.toml))
campaign := cargo run --quiet --example campaign --

# Said before anything is built, in one line.
machine = [[ $$(id -u) = 0 ]] || { echo 'make $(MAKECMDGOALS): needs root (it boots hosts): run it with sudo' >&2; exit 1; }; \
	command -v apt-get >/dev/null || { echo 'make $(MAKECMDGOALS): needs a Debian machine: apt-get is missing' >&2; exit 1; }
ifeq ($(ASTRA_SKIP_HOST_TESTS),1)
machine = true
endif
rust = command -v cargo >/dev/null || { echo 'make $(MAKECMDGOALS): cargo is missing: get it from https://rustup.rs' >&2; exit 1; }; \
	command -v cc >/dev/null || { apt-get -q update && apt-get -q install -y --no-install-recommends gcc libc6-dev; } >&2 || \
		{ echo 'make $(MAKECMDGOALS): a C compiler is missing: install gcc and libc6-dev' >&2; exit 1; }

help:
	@echo 'make test    format, lints, unit tests, tests on real hosts (root, Debian)'
	@echo 'make scenarios   each verb on a host of fakes: seconds, without root'
	@echo 'make vm      boot a virtual machine from EC2 user data to a site that serves (minutes)'
	@echo 'make demo    watch a deploy on a throw-away host'
	@echo 'make shell   enter the host of the demo'
	@echo 'make bench   measure'
	@echo 'make packages    .deb, .rpm and .tar.gz of the release, in target/packages'
	@echo 'make campaign        prove the claims of docs/proof.md, and write it (hours; campaign-short: in small)'
	@echo 'make clean   delete all that was built'

test: needs check unit-test host-test
	@echo 'make test: all passed'

needs:
	@$(machine)
	@$(rust)

check:
	@$(rust)
	@{ cargo fmt --version && cargo clippy --version; } &>/dev/null || rustup component add rustfmt clippy
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	if command -v cargo-deny >/dev/null; then cargo deny check; fi

unit-test:
	cargo $(run) --lib --bins --example campaign --example pages $(tests:%=--test %)

# Also part of unit-test.
scenarios:
	cargo $(run) --test scenarios

ifeq ($(ASTRA_SKIP_HOST_TESTS),1)
host-test:
	@echo 'host tests skipped: ASTRA_SKIP_HOST_TESTS=1'
else
host-test:
	tests/host/build
	cargo build --example load --example imds --example pages
	cargo $(run) --no-fail-fast --test host $(hosts)
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
		CAMPAIGN_DIR=$$dir CAMPAIGN_AGENT=$${CARGO_TARGET_DIR:-target}/debug/astra-agent CAMPAIGN_CUTS=3 $(campaign) cuts
endif

# Not a part of `test` yet: emulated, two boots take minutes.
vm: needs
	cargo build
	cargo build --example imds
	tests/vm/run

demo: needs
	tests/host/demo

shell:
	@tests/host/host leader demo &>/dev/null || { echo 'shell: there is no host: make demo' >&2; exit 1; }
	tests/host/host sh demo || true

bench: needs
	tests/bench/run

# The C library that zig links against is older than that of any supported host; packaging/build checks it. ARCHS="x86_64"
# builds one. No path of this machine is in the binary.
target := $${CARGO_TARGET_DIR:-target}
ARCHS := x86_64 aarch64
packages:
	@$(rust)
	tools=$(target)/tools/zig; [[ -x $$tools/bin/cargo-zigbuild ]] || { \
		{ python3 -m venv --help >/dev/null && python3 -m venv "$$tools"; } || \
			{ apt-get -q update && apt-get -q install -y --no-install-recommends python3-venv && python3 -m venv "$$tools"; }; \
		"$$tools/bin/pip" -q install cargo-zigbuild==0.24.0 ziglang==0.17.0; }
	rustup -q target add $(ARCHS:%=%-unknown-linux-gnu)
	rm -rf $(target)/packages
	PATH=$$(realpath $(target)/tools/zig/bin):$$PATH \
		RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo --remap-path-prefix=$$PWD=/astra-agent" \
		cargo zigbuild --locked --release --bin astra-agent $(ARCHS:%=--target %-unknown-linux-gnu.2.28)
	for arch in $(ARCHS); do \
		packaging/build --bin $(target)/$$arch-unknown-linux-gnu/release/astra-agent --out $(target)/packages; done

# Parts: load baseline kills faults operator cuts fuzz report; campaign-new forgets the results.
campaign: needs
	$(campaign) all

campaign-%: needs
	$(campaign) $*

clean:
	tests/host/host clean
	cargo clean
