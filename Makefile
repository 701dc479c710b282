# What this repository can do for its developers and its users. `make help` lists it.
#
# Every target works in a fresh clone: `tools/setup.sh` installs what is missing, and needs root or
# `sudo` for that. Nothing is installed when everything is there.

.POSIX:
.SUFFIXES:
.PHONY: help run test test-long bench audit fmt clean-data

# How many cases `make test-long` gives each property test.
CASES = 20000

help: ## List the targets
	@awk -F ': *## *' '/^[a-z-]*: *##/ { printf "  make %-10s  %s\n", $$1, $$2 }' Makefile

run: ## Build and start Postern with a stand-in product; prints a first sign-in and the requests to try
	@sh tools/setup.sh
	cargo build --release --locked
	@exec target/release/postern serve --config deploy/demo.toml --demo

test: ## Format, lints and all tests: what must pass before a change goes in
	@sh tools/setup.sh test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	PATH="$$PATH:/usr/sbin" cargo test --workspace --locked

test-long: ## The tests again with CASES=20000: a million questions and more against plain Cedar, requests of every sort, and a minute of fuzzing a target; takes hours
	@sh tools/setup.sh test
	PATH="$$PATH:/usr/sbin" PROPTEST_CASES=$(CASES) cargo test --workspace --locked
	PATH="$$PATH:/usr/sbin" PROPTEST_CASES=$(CASES) cargo test --workspace --locked --test e2e -- --ignored
	@sh tools/fuzz.sh

bench: ## Measure what a decision, a token and a sign-in cost
	@sh tools/bench.sh

audit: ## Licences, sources and known advisories of everything that is built in
	@sh tools/setup.sh
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
	cargo deny check --allow license-exception-not-encountered licenses bans sources
	cargo deny --manifest-path fuzz/Cargo.toml check --allow license-exception-not-encountered --allow license-not-encountered licenses bans sources
	@if cargo deny fetch db; then cargo deny check advisories && \
		cargo deny --manifest-path fuzz/Cargo.toml check advisories; \
	else echo 'audit: the advisory database cannot be reached: ADVISORIES WERE NOT CHECKED' >&2; fi

fmt: ## Format the code
	cargo fmt --all

clean-data: ## Remove the data of `make run`: the next start is a first start again
	rm -rf data
