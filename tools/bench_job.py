"""The job that Postern and others do in `tools/bench-peers.py`: a product of 200 routes, tokens of a thousand
people, a mix of requests, and the configuration by which each server does it.

Every route has two parameters or three and needs a permission. A person is in three groups, each of which
may read or edit one area of the product. All servers get the same requests and check the same tokens."""

import base64
import json
import random
import secrets
import subprocess
import sys
import time

from bench_common import target, work

AREAS = "audit cards cash fees fraud ledger loans risk tax trade".split()
KINDS = "accounts entries limits reports".split()
PREFIX = "/v1/organizations/{organization}/ledgers/{ledger}"
# What is done to a kind of thing, and to one thing.
METHODS = [("GET", ""), ("POST", ""), ("GET", "/{id}"), ("PATCH", "/{id}"), ("DELETE", "/{id}")]
ISSUER = "https://issuer.example"
AUDIENCE = "postern"
TOKENS = 1_000
REQUESTS = 4_000


def routes():
    """Method, path, area, kind."""
    for area in AREAS:
        for kind in KINDS:
            for method, more in METHODS:
                yield method, f"{PREFIX}/{area}-{kind}{more}", area, kind


def groups(method, area):
    """Those whose members may: editors may everything."""
    return [f"{area}-viewers", f"{area}-editors"] if method == "GET" else [f"{area}-editors"]


def regex(path):
    return "^" + "/".join("[^/]+" if part.startswith("{") else part for part in path.split("/")) + "$"


def manifest():
    lines = ["product: bench", "title: Bench", "resources:"]
    actions = sorted({method.lower() for method, _ in METHODS})
    of = {area: [f"{area}-{kind}" for kind in KINDS] for area in AREAS}
    lines += [f"  {one}: {json.dumps(actions)}" for area in AREAS for one in of[area]]
    lines.append("roles:")
    for area in AREAS:
        for role, may in (("viewer", ["get"]), ("editor", actions)):
            lines += [f"  {area}-{role}-role:", f"    title: {area} {role}", "    permissions:"]
            lines += [f"      {one}: {json.dumps(may)}" for one in of[area]]
    lines.append("groups:")
    for area in AREAS:
        for role in ("viewer", "editor"):
            lines.append(f"  {area}-{role}s: {{title: {area} {role}s, roles: [{area}-{role}-role]}}")
    lines += ["routes: v1", "route_sets:", "  v1:", "    table:"]
    lines += [f"      - {method} {path} -> {area}-{kind}:{method.lower()}" for method, path, area, kind in routes()]
    return "\n".join(lines) + "\n"


def claims(person, member, late=0):
    """As identity writes them. `scope` has the groups, too: not everybody reads a list."""
    now = int(time.time()) - late
    return {
        "iss": ISSUER,
        "sub": person,
        "aud": [AUDIENCE, "ac56c81d4d6d95c0ac12"],
        "azp": "ac56c81d4d6d95c0ac12",
        "exp": now + 6 * 3600,
        "iat": now - 100,
        "nbf": now - 100,
        "jti": unique(),
        "type": "normal-user",
        "owner": "lerian",
        "organization": "lerian",
        "name": f"p-{person[:8]}",
        "displayName": f"P {person[:8]}",
        "tokenType": "access-token",
        "scope": " ".join(["openid", *member]),
        "groups": member,
        "sid": unique(),
        "amr": ["pwd", "otp", "mfa"],
        "auth_time": now - 100,
    }


def unique():
    digits = secrets.token_hex(16)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def membership(dice):
    """Editor of one area, viewer of two others."""
    edits, *reads = dice.sample(AREAS, 3)
    return [f"{edits}-editors", *(f"{area}-viewers" for area in reads)]


def sign(algorithm, folder, said):
    """A file with a token for each of these claims; the public key is beside it, as `jwks.json` and `key.pem`."""
    folder.mkdir(exist_ok=True)
    file = folder / "tokens"
    with file.open("w") as out:
        words = [target / "examples/raw", "tokens", algorithm, folder]
        signer = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=out, text=True)
        for one in said:
            signer.stdin.write(one + "\n")
        signer.stdin.close()
        if signer.wait():
            sys.exit("bench: no tokens were made")
    return file


def distinct(count):
    """Claims of as many people, all viewers of the ledger; and a request that all of them may make."""
    said = claims("SUBJECT", ["ledger-viewers"])
    said |= {"jti": "TOKEN", "name": "p-1", "displayName": "P 1"}
    said = compact(said)
    path = f"/v1/organizations/{unique()}/ledgers/{unique()}/ledger-accounts"
    return (said.replace("SUBJECT", unique()).replace("TOKEN", unique()) for _ in range(count)), path


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def spoilt(token):
    """With a signature that does not fit."""
    head, _, signature = token.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    raw[len(raw) // 2] ^= 1
    return f"{head}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"


def said(token):
    """What it says, for a complaint."""
    parts = token.split(".")
    return base64.urlsafe_b64decode(parts[1] + "==").decode(errors="replace") if len(parts) == 3 else token


def mix():
    """The requests in the order in which they are sent: method, target, token, and what the answer must be.

    Of a hundred, 90 are allowed, 5 are forbidden, and 5 have a token that is no good."""
    dice = random.Random(1)
    people = [(unique(), membership(dice)) for _ in range(TOKENS)]
    signed = [claims(*one) for one in people] + [claims(*one, late=86_400) for one in people[:50]]
    valid = sign("RS256", work, map(compact, signed)).read_text().splitlines()
    valid, expired = valid[:TOKENS], valid[TOKENS:]
    table = list(routes())
    requests = []
    for number in range(REQUESTS):
        who = number % TOKENS
        member, token = people[who][1], valid[who]
        status = {0: 401, 1: 403}.get(number // 10 % 20, 200)
        may = [row for row in table if any(group in member for group in groups(row[0], row[2]))]
        method, path, *_ = dice.choice([row for row in table if row not in may] if status == 403 else may)
        for name in ("{organization}", "{ledger}", "{id}"):
            path = path.replace(name, unique())
        if status == 401:
            token = dice.choice([spoilt(token), dice.choice(expired), "garbage." + unique()])
        requests.append((method, path, token, status))
    dice.shuffle(requests)
    shares = [sum(one[3] == status for one in requests) / REQUESTS for status in (200, 403, 401)]
    if shares != [0.9, 0.05, 0.05]:
        sys.exit(f"bench: the mix is {shares}")
    return requests


def direct(method, path, token, _):
    """A request as the client sends it. None has a body: Envoy closes the connection of one that it answers itself."""
    length = "content-length: 0\r\n" if method in ("POST", "PATCH") else ""
    return f"{method} {path} HTTP/1.1\r\nhost: product.example\r\nauthorization: Bearer {token}\r\n{length}\r\n"


def asked(method, path, token, _):
    """The same request as nginx asks about it."""
    return (
        f"GET /forward-auth/nginx/bench HTTP/1.1\r\nhost: postern\r\nauthorization: Bearer {token}\r\n"
        f"x-original-method: {method}\r\nx-original-uri: {path}\r\nx-forwarded-proto: http\r\n"
        "x-forwarded-host: product.example\r\nx-forwarded-for: 192.0.2.1\r\n\r\n"
    )


HAPROXY = """
global
    nbthread 1
    log stderr format raw local0 alert
defaults
    mode http
    timeout client 60s
    timeout connect 5s
    timeout server 60s
frontend front
    bind {listen}
{verify}
    http-request deny deny_status 401 unless {{ {claim}'$.iss') -m str {issuer} }}
    http-request deny deny_status 401 unless {{ {claim}'$.aud[0]') -m str {audience} }}
    http-request set-var(txn.exp) {claim}'$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
    http-request set-var(txn.scope) {claim}'$.scope')
    http-request set-header X-Subject %[{claim}'$.sub')]
{rules}
    http-request deny deny_status 403
    default_backend product
backend product
    server product {upstream}
"""


def haproxy(listen, upstream, then, quick):
    """Configuration of HAProxy. `then`: what becomes of what may pass. `quick`: the path loses its parameters and
    is looked up, where otherwise each route is a rule of its own, and the claims are decoded once."""

    def lines(rules):
        return "\n".join(f"    http-request {rule}" for rule in rules)

    key = work / "key.pem"
    bad = "deny deny_status 401 unless"
    if quick:
        claim = "var(txn.said),json_query("
        verify = [
            f"{bad} {{ http_auth_bearer,jwt_verify('RS256',\"{key}\") 1 }}",
            "set-var(txn.said) http_auth_bearer,field(2,.),ub64dec",
        ]
    else:
        claim = "http_auth_bearer,jwt_payload_query("
        verify = [
            "set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')",
            f"{bad} {{ var(txn.alg) -m str RS256 }}",
            f"{bad} {{ http_auth_bearer,jwt_verify(txn.alg,\"{key}\") 1 }}",
        ]
    if quick:
        table = {}
        for method, path, area, kind in routes():
            more = "/*" if path.endswith("{id}") else ""
            table[f"{method} {area}-{kind}{more}"] = f"{area}:{'read' if method == 'GET' else 'edit'}"
        (work / "routes.map").write_text("".join(f"{key.replace(' ', ':')} {need}\n" for key, need in table.items()))
        rules = [
            "set-var(txn.path) path,regsub(^/v1/organizations/[^/]+/ledgers/[^/]+/,),regsub(/[^/]+$,/*)",
            f"set-var(txn.need) method,concat(:,txn.path),map_str({work / 'routes.map'})",
        ]
        for need, method in (("read", "GET"), ("edit", "POST")):
            for area in AREAS:
                may = " ".join(groups(method, area))
                rules.append(f"{then} if {{ var(txn.need) -m str {area}:{need} }} {{ var(txn.scope) -m sub {may} }}")
    else:
        rules = [
            f"{then} if {{ method {method} }} {{ path_reg {regex(path)} }} "
            f"{{ var(txn.scope) -m sub {' '.join(groups(method, area))} }}"
            for method, path, area, _ in routes()
        ]
    return HAPROXY.format(
        listen=listen,
        upstream=upstream,
        verify=lines(verify),
        claim=claim,
        issuer=ISSUER,
        audience=AUDIENCE,
        rules=lines(rules),
    )


def envoy(listen, upstream, inline):
    """Configuration of Envoy, in JSON, which it reads as YAML."""

    def address(text):
        host, port = text.split(":")
        return {"socket_address": {"address": host, "port_value": int(port)}}

    def kind(name, **more):
        return {"@type": f"type.googleapis.com/envoy.extensions.{name}", **more}

    def member(group):
        path = [{"key": "claims"}, {"key": "groups"}]
        one_of = {"list_match": {"one_of": {"string_match": {"exact": group}}}}
        return {"sourced_metadata": {"metadata_matcher": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": one_of}}}

    def policy(method, path, area):
        rules = [
            {"header": {"name": ":method", "string_match": {"exact": method}}},
            {"url_path": {"path": {"safe_regex": {"regex": regex(path)}}}},
        ]
        may = [member(group) for group in groups(method, area)]
        return {"permissions": [{"and_rules": {"rules": rules}}], "principals": may}

    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"filename": str(work / "jwks.json")},
        "forward": True,
        "payload_in_metadata": "claims",
        "claim_to_headers": [{"header_name": "x-subject", "claim_name": "sub"}],
        "jwt_cache_config": {"jwt_cache_size": 2 * TOKENS},
    }
    policies = {f"p{at:03}": policy(method, path, area) for at, (method, path, area, _) in enumerate(routes())}
    jwt = kind(
        "filters.http.jwt_authn.v3.JwtAuthentication",
        providers={"bench": provider},
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}],
    )
    rbac = kind("filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": policies})
    route = {"match": {"prefix": "/"}}
    route |= {"route": {"cluster": "product"}} if inline else {"direct_response": {"status": 200}}
    manager = kind(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="front",
        generate_request_id=False,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            {"name": "envoy.filters.http.jwt_authn", "typed_config": jwt},
            {"name": "envoy.filters.http.rbac", "typed_config": rbac},
            {"name": "envoy.filters.http.router", "typed_config": kind("filters.http.router.v3.Router")},
        ],
    )
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}
    cluster = {
        "name": "product",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "product", "endpoints": [endpoint]},
        "circuit_breakers": {"thresholds": [{"max_requests": 100_000, "max_connections": 10_000}]},
    }
    listener = {"name": "front", "address": address(listen), "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
