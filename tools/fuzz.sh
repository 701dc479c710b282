#!/bin/sh
# Looks for bytes that break a law of proxy/src/fuzz.rs, so many seconds a target.
#
#   tools/fuzz.sh               a minute for each target of fuzz/
#   tools/fuzz.sh SECONDS [TARGET...]
#
# Needs a nightly compiler, which rustup brings, and cargo-fuzz, which is installed when it is missing.
# Begins with the inputs of fuzz/corpus; what else is found to reach new code stays in target/fuzz, and
# an input that breaks a law in fuzz/artifacts: put it into fuzz/corpus, where `make test` asks it again.
set -eu
cd "$(dirname "$0")/.."

seconds="${1:-60}"
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- spelling token forwarded ext_authz authzen

case "$seconds" in
    *[!0-9]* | '')
        echo "fuzz: not a number of seconds: $seconds" >&2
        exit 2
        ;;
esac

rustup run nightly rustc --version >/dev/null 2>&1 \
    || rustup toolchain install nightly --profile minimal --no-self-update
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked

for target; do
    found="target/fuzz/$target"
    mkdir -p "$found"
    echo "== $target, $seconds s"
    cargo +nightly fuzz run --target-dir target/fuzz-build "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -max_len=8192 -timeout=10 -print_final_stats=1
done
