#!/bin/sh
# Measures what Postern costs, and prints ratios. docs/performance.md says what they mean.
#
#   tools/bench.sh            everything: Criterion's benches, the whole process, identity, then peers
#   tools/bench.sh criterion  the first part alone
#   tools/bench.sh process    the second part alone
#   tools/bench.sh identity   tokens, sign-ins and lists alone
#   tools/bench.sh peers      the same job done by others, and a sidecar's own figures, alone
#
# Takes about fifteen minutes once everything is built. Nothing is asserted about time. Everything it
# starts listens on loopback and is ended with it; everything it writes goes with its folder.
set -eu
cd "$(dirname "$0")/.."

rounds=5
seconds=4
connections=32
target="${CARGO_TARGET_DIR:-target}"

fail() {
    echo "bench: $*" >&2
    exit 1
}

parts="${1:-criterion process identity peers}"
case "$parts" in
    'criterion process identity peers' | criterion | process | identity | peers) ;;
    *) fail "no such argument: $parts; there are criterion, process, identity and peers" ;;
esac

[ ! -e tools/setup.sh ] || sh tools/setup.sh bench

# The server has one core and everything else another: load that shares a core with what it loads
# measures itself. First and second of those this process may use.
allowed="$(taskset -cp $$ | sed 's/.*: //')"
cores="$(echo "$allowed" | tr ',' '\n' |
    awk -F - '{ for (n = $1; n <= ($2 == "" ? $1 : $2); n++) print n }' | head -n 2)"
server_core="$(echo "$cores" | sed -n 1p)"
load_core="$(echo "$cores" | sed -n 2p)"
if [ -z "$load_core" ]; then
    load_core="$server_core"
    echo 'bench: there is one core, so the load shares it with the server; expect little of the ratios'
fi

echo '== building'
cargo build --profile dist --locked --bin postern --example bare --example raw
case "$parts" in
    *criterion*) cargo bench --locked --no-run --bench decide --bench token --bench allocations ;;
esac

criterion() {
    for bench in decide token allocations; do
        echo
        echo "== $bench"
        taskset -c "$server_core" cargo bench --quiet --locked --bench "$bench" -- \
            --noplot --discard-baseline --quiet
    done
}

# --- the whole process

work=
pids=

finish() {
    code=$?
    trap - EXIT HUP INT TERM
    for pid in $pids; do kill "$pid" 2>/dev/null || :; done
    for pid in $pids; do wait "$pid" 2>/dev/null || :; done
    [ -z "$work" ] || rm -rf "$work"
    exit "$code"
}

# Wait until a file holds a line that matches, and print the last word of it.
# printed FILE PATTERN PID
printed() {
    tries=0
    while [ "$tries" -lt 150 ]; do
        line="$(grep -m 1 -e "$2" "$1" 2>/dev/null || :)"
        if [ -n "$line" ]; then
            echo "${line##*[ /]}"
            return 0
        fi
        kill -0 "$3" 2>/dev/null || fail "what should have printed \"$2\" ended: $(tail -n 3 "$1")"
        tries=$((tries + 1))
        sleep 0.2
    done
    fail "nothing printed \"$2\" in 30 s"
}

# Start Postern with a data folder of its own. Leaves its id in `started`, its token in NAME.lua.
# postern NAME WHERE-DECISIONS-GO
postern() {
    # The rules for passwords: every kind of character, and no two equal ones in a row.
    random="$(od -An -N 24 -t x1 /dev/urandom | tr -d ' \n' | tr -s '0-9a-f')"
    password="P-x7.$random"
    (
        umask 077
        # As shipped: what a developer has set or written beside this counts for nothing here.
        unset $(env | sed -n 's/^\(POSTERN_[A-Z_]*\)=.*/\1/p')
        export POSTERN_DATA_DIR="$work/$1.data" POSTERN_POLICIES=policies
        export POSTERN_LOG_DECISIONS_TO="$2" POSTERN_BOOTSTRAP_ADMIN_PASSWORD="$password"
        export POSTERN_PROXY_LISTEN=127.0.0.1:0 POSTERN_PROXY_GATEWAY=127.0.0.1:0
        export POSTERN_PROXY_EXT_AUTHZ=127.0.0.1:0 POSTERN_PROXY_HEALTH=127.0.0.1:0
        export POSTERN_IDENTITY_LISTEN=127.0.0.1:0
        export POSTERN_PRODUCT_NAME=midaz POSTERN_PRODUCT_UPSTREAM="http://$upstream"
        exec taskset -c "$server_core" "$target/dist/postern" serve --config "$work/postern.toml"
    ) >"$work/$1.out" 2>"$work/$1.log" &
    started=$!
    pids="$pids $started"
    doors="$(printed "$work/$1.out" 'Auth API' "$started")"
    gateway="$(printed "$work/$1.out" '^ *gateway' "$started")"
    # By standard input and a file: an argument can be read by everybody.
    token="$(printf '{"grantType":"password","username":"admin","password":"%s"}' "$password" |
        curl -sS -m 30 -H 'Content-Type: application/json' -d @- \
            "http://$doors/v1/login/oauth/access_token" |
        sed -n 's/.*"accessToken":"\([^"]*\)".*/\1/p')"
    [ -n "$token" ] || fail "no token from $doors"
    script "$1"
}

# What wrk sends, and what it tells at the end.
# script NAME
script() {
    {
        echo "wrk.headers['Authorization'] = 'Bearer $token'"
        cat <<'LUA'
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("told %d %d %d %d\n",
    summary.requests, summary.duration, latency:percentile(99), failed))
end
LUA
    } >"$work/$1.lua"
}

# The processor time of processes so far, in clock ticks.
ticks() {
    for pid in $1; do sed 's/.*) //' "/proc/$pid/stat"; done | awk '{ n += $12 + $13 } END { print n }'
}

# An nginx that asks at an address before it passes a request on. Leaves its id in `started`.
# chain NAME ADDRESS-AND-PATH
chain() {
    port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    cat >"$work/$1.conf" <<CONF
daemon off;
master_process off;
pid $work/$1.pid;
error_log $work/$1.log;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path $work/$1.tmp;
    proxy_temp_path $work/$1.tmp;
    fastcgi_temp_path $work/$1.tmp;
    uwsgi_temp_path $work/$1.tmp;
    scgi_temp_path $work/$1.tmp;
    upstream auth { server ${2%%/*}; keepalive 64; keepalive_requests 1000000; }
    upstream product { server $upstream; keepalive 64; keepalive_requests 1000000; }
    server {
        listen 127.0.0.1:$port;
        keepalive_requests 1000000;
        proxy_http_version 1.1;
        location / {
            auth_request /auth;
            auth_request_set \$subject \$upstream_http_x_postern_subject;
            auth_request_set \$organization \$upstream_http_x_postern_organization;
            proxy_set_header X-Postern-Subject \$subject;
            proxy_set_header X-Postern-Organization \$organization;
            proxy_set_header Connection "";
            proxy_pass http://product;
        }
        location = /auth {
            internal;
            proxy_pass http://auth/${2#*/};
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Connection "";
            proxy_set_header X-Original-Method \$request_method;
            proxy_set_header X-Original-URI \$request_uri;
            proxy_set_header X-Forwarded-Proto \$scheme;
            proxy_set_header X-Forwarded-Host \$host;
            proxy_set_header X-Forwarded-For \$remote_addr;
        }
    }
}
CONF
    PATH="$PATH:/usr/sbin" taskset -c "$server_core" nginx -c "$work/$1.conf" >"$work/$1.out" 2>&1 &
    started=$!
    pids="$pids $started"
    tries=0
    until curl -s -o /dev/null "http://127.0.0.1:$port/"; do
        kill -0 "$started" 2>/dev/null || fail "nginx ended: $(cat "$work/$1.out" "$work/$1.log")"
        tries=$((tries + 1))
        [ "$tries" -lt 150 ] || fail 'nginx did not answer in 30 s'
        sleep 0.2
    done
}

# One round of one candidate: requests a second, 99th percentile in µs, processor µs a request.
# load NAME PIDS ADDRESS SECONDS
load() {
    before="$(ticks "$2")"
    told="$(taskset -c "$load_core" wrk -t 1 -c "$connections" -d "$4s" -s "$work/$1.lua" \
        "http://$3$path" | sed -n 's/^told //p')"
    after="$(ticks "$2")"
    [ -n "$told" ] || fail "wrk told nothing of $1"
    echo "$told $((after - before)) $(getconf CLK_TCK)" | awk '{
        if ($4 > 0) exit 1
        printf "%.0f %d %.1f\n", $1 * 1e6 / $2, $3, $5 * 1e6 / $6 / $1
    }' || fail "$1 did not answer every request with 200"
}

# median NAME COLUMN
median() {
    cut -d ' ' -f "$2" "$work/$1.rounds" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# tell NAME TITLE REFERENCE
tell() {
    echo "$(median "$3" 1) $(median "$3" 3) $(median "$1" 1) $(median "$1" 2) $(median "$1" 3)" |
        awk '{ printf "%d %d %.1f %.2f %.2f\n", $3, $4, $5, $3 / $1, $5 / $2 }' |
        { read -r figures && printf '  %-32s %8s %8s %8s %8s %8s\n' "$2" $figures; }
}

process() {
    echo
    echo '== the whole process'
    trap finish EXIT
    trap 'exit 1' HUP INT TERM
    work="$(mktemp -d)"
    # The door believes what a server on this machine says. The gateway asks nobody in front of it.
    echo 'proxy.trusted_proxies = ["127.0.0.1"]' >"$work/postern.toml"
    # A route with parameters, that needs a permission.
    id=0190e6f0-7d2c-7a44-9b6e-3a1f5c2d8e0
    path="/v1/organizations/${id}1/ledgers/${id}2/accounts/${id}3"

    taskset -c "$load_core" "$target/dist/examples/bare" upstream >"$work/upstream.out" 2>&1 &
    upstream_pid=$!
    pids="$pids $upstream_pid"
    upstream="$(printed "$work/upstream.out" '^127' "$upstream_pid")"

    taskset -c "$server_core" "$target/dist/examples/bare" proxy "$upstream" \
        >"$work/bare.out" 2>"$work/bare.log" &
    bare_pid=$!
    pids="$pids $bare_pid"
    bare="$(printed "$work/bare.out" '^127' "$bare_pid")"

    postern quiet off
    quiet_pid="$started" quiet="$gateway"
    postern logged stdout
    logged_pid="$started" logged="$gateway"
    # The bare proxy gets the same request, token and all.
    cp "$work/logged.lua" "$work/bare.lua"

    # A server that always answers with 204, where the others serve, and the same question put to the door
    # of the Postern that was started last.
    taskset -c "$server_core" "$target/dist/examples/bare" nothing >"$work/constant.out" 2>&1 &
    constant_pid=$!
    pids="$pids $constant_pid"
    constant="$(printed "$work/constant.out" '^127' "$constant_pid")"
    door_pid="$logged_pid" door="$doors"
    {
        cat "$work/logged.lua"
        echo "wrk.path = '/forward-auth/nginx/midaz'"
        echo "wrk.headers['X-Original-Method'] = 'GET'"
        echo "wrk.headers['X-Original-URI'] = '$path'"
        echo "wrk.headers['X-Forwarded-Proto'] = 'http'"
        echo "wrk.headers['X-Forwarded-Host'] = 'product.example'"
        echo "wrk.headers['X-Forwarded-For'] = '192.0.2.1'"
    } >"$work/door.lua"
    cp "$work/door.lua" "$work/constant.lua"

    # nginx that asks either of them about each request.
    chain chain_constant "$constant/anything"
    chain_constant_pid="$started $constant_pid" chain_constant="127.0.0.1:$port"
    chain chain "$doors/forward-auth/nginx/midaz"
    chain_pid="$started $logged_pid" chain="127.0.0.1:$port"
    cp "$work/logged.lua" "$work/chain.lua"
    cp "$work/logged.lua" "$work/chain_constant.lua"

    status="$(curl -s -m 10 -o /dev/null -w '%{http_code}' "http://$logged$path")"
    [ "$status" = 401 ] || fail "a request without a token was answered with $status"

    # Every candidate in every round, so that what else the machine does falls on all of them.
    round=0
    while [ "$round" -le "$rounds" ]; do
        for name in bare logged quiet constant door chain_constant chain; do
            eval "pid=\$${name}_pid address=\$$name"
            if [ "$round" -eq 0 ]; then
                load "$name" "$pid" "$address" 2 >/dev/null
            else
                load "$name" "$pid" "$address" "$seconds" >>"$work/$name.rounds"
            fi
        done
        round=$((round + 1))
    done

    echo
    echo "medians of $rounds rounds of $seconds s; $connections connections, kept alive; one token; server on"
    echo "core $server_core, load and upstream on core $load_core; × is to the first of each block, in this run"
    echo
    echo '                                      req/s   p99 µs   CPU µs  req/s ×    CPU ×'
    tell bare 'bare Pingora proxy' bare
    tell logged 'Postern, as shipped' bare
    tell quiet 'Postern, decisions not logged' bare
    echo
    echo '  answering only, × is to the server that answers with a constant'
    tell constant 'bare hyper server' constant
    tell door "Postern, nginx's door" constant
    echo
    echo '  nginx that asks about each request, and who is asked; × is to the first'
    tell chain_constant 'nginx and the bare hyper server' chain_constant
    tell chain 'nginx and Postern' chain_constant
}

identity() {
    echo
    echo '== identity'
    python3 tools/bench-identity.py "$target"
}

peers() {
    echo
    echo '== peers'
    python3 tools/bench-peers.py "$target"
}

for part in $parts; do
    "$part"
done
