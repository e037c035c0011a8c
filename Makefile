# Two commands do everything on a fresh Debian 12 machine with a Rust toolchain:
#   make demo   runs the whole story in QEMU
#   make test   runs all the tests
# The others: test-all (longer boots), fuzz (looks for inputs that break a property), bench (measurements), lint, stage1, tools, clean.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test test-all fuzz bench lint build stage1 tools clean root-or-sudo

STATIC_TARGET := x86_64-unknown-linux-gnu
STATIC := -C target-feature=+crt-static
# It has 4 MiB: equal functions are kept once, C code needs no tables for unwinding, and what is left of them no index, since a panic
# aborts; relocations are packed (glibc 2.36 and later apply such ones in a static program); signatures are checked, and secrets
# opened, without AVX2.
STAGE1_RUSTFLAGS := $(STATIC) -C link-arg=-Wl,--icf=all,-O2,--no-eh-frame-hdr,-z,pack-relative-relocs --cfg curve25519_dalek_backend="serial" --cfg chacha20_force_soft --cfg poly1305_force_soft
STAGE1_CFLAGS := -fno-asynchronous-unwind-tables -fno-unwind-tables
TOWLINE := target/release/towline
DEMO ?=
# Network namespaces need root. Only the tests get it, not cargo: what it builds stays the user's.
AS_ROOT := $(shell [ $$(id -u) -eq 0 ] || echo "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='sudo -E'")

demo: build
	@$(TOWLINE) demo $(DEMO)

# What needs no kernel of its own first, then the boots of what `make build` made, at most two machines at a time.
test: root-or-sudo lint build
	cargo test --workspace --exclude towline-conformance --quiet
	cargo test -p towline-conformance -p towline-contract --quiet
	tests/interop/run
	$(AS_ROOT) cargo test -p towline-stage1 --test network --test fetching --quiet -- --ignored
	$(AS_ROOT) cargo test -p towline-server --lib --quiet -- --ignored
	cargo test --test e2e -- --ignored --skip nightly --test-threads=2

# Said before an hour of work, not after it.
root-or-sudo:
	@[ $$(id -u) -eq 0 ] || command -v sudo >/dev/null || \
	  { echo 'towline: the tests of the network need root, and there is no sudo; next: as root, run make test again' >&2; exit 1; }
	@[ $$(id -u) -eq 0 ] || sudo -v

# One machine at a time: recoveries take minutes, and have deadlines.
test-all: test
	@tests/install-tools nightly
	cargo test --test e2e nightly -- --ignored --test-threads=1
	cargo test -p towline-media --test boots -- --ignored

# Each format for 20 minutes or ten million executions, one after the other: FUZZ_SECONDS, FUZZ_RUNS, FUZZ_TARGETS.
fuzz:
	@tests/fuzz/run

bench: build
	cargo run --quiet --release -p towline-bench | tee target/benchmarks.md

lint: tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

# Static too: the same program runs on any protected host, whatever its distribution.
build: tools stage1
	RUSTFLAGS='$(STATIC)' cargo build --release --quiet --target $(STATIC_TARGET) --bin towline
	@mkdir -p $(dir $(TOWLINE)) && ln -f target/$(STATIC_TARGET)/release/towline $(TOWLINE)

# Static, small, and by its own command: features of the other programs must not leak into PID 1.
stage1: tools
	CFLAGS='$(STAGE1_CFLAGS)' RUSTFLAGS='$(STAGE1_RUSTFLAGS)' cargo build --quiet --profile stage1 -p towline-stage1 --bin towline-stage1 --target $(STATIC_TARGET)

tools:
	@tests/install-tools

clean:
	cargo clean
