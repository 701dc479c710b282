#!/usr/bin/env python3
"""Measures what tokens, sign-ins and lists of the Identity service cost, and prints ratios.
docs/performance.md says what they mean.

    tools/bench-identity.py TARGET     the folder that Cargo builds into: `release/postern` and
                                       `release/examples/raw` are there

The server has one core, the load and PostgreSQL another. Everything that it starts listens on loopback or
in its own folder and is ended with it."""

import json
import os
import secrets
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SECONDS = 4
CONNECTIONS = 16
PEOPLE = 100_000
TENANTS = 10_000
CLIENT = "bench0000000000000000"

target = Path(sys.argv[1]).resolve() / "release"
root = Path(__file__).resolve().parent.parent
work = Path(tempfile.mkdtemp(prefix="postern-bench-"))
cores = sorted(os.sched_getaffinity(0))
server_core, load_core = cores[0], cores[min(1, len(cores) - 1)]
started = []

# wrk's side: what it sends, and what it tells at the end. Refresh tokens are good once, so each answer's is
# used by the request after.
DONE = """
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("told %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""
REFRESH = """
local free = {}
for token in io.lines("TOKENS") do free[#free + 1] = token end
function request()
  local token = table.remove(free)
  return wrk.format("POST", nil, {["content-type"] = "application/json"},
    '{"refreshToken":"' .. token .. '"}')
end
function response(status, headers, body)
  free[#free + 1] = body:match('"refreshToken":"([^"]+)"')
end
"""


def run(core, command, **more):
    more = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    child = subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], **more)
    started.append(child)
    return child


class Postgres:
    """One of its own, as durable as it comes."""

    def __init__(self):
        binaries = max(Path("/usr/lib/postgresql").iterdir(), key=lambda one: int(one.name)) / "bin"
        self.folder = Path(tempfile.mkdtemp(prefix="postern-bench-pg-"))
        nobody = []
        if os.getuid() == 0:
            os.chown(self.folder, 65534, 65534)
            nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        data = self.folder / "data"
        make = [*nobody, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)
        own = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}"]
        serve = [*nobody, binaries / "postgres", "-D", data, *own]
        run(load_core, serve, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.psql = [*nobody, binaries / "psql", "-h", self.folder, "-U", "postgres", "-qc"]
        wait(lambda: self.ask("CREATE ROLE postern LOGIN"))

    def ask(self, statement, database="postgres"):
        told = subprocess.run([*self.psql, statement, database], cwd=self.folder, capture_output=True)
        return told.returncode == 0

    def database(self, name):
        assert self.ask(f"CREATE DATABASE {name} OWNER postern ENCODING 'UTF8' TEMPLATE template0")
        return f"postgres://postern@{str(self.folder).replace('/', '%2F')}/{name}"


def wait(so):
    until = time.monotonic() + 60
    while not (told := so()):
        if time.monotonic() > until:
            sys.exit("bench: it did not start in a minute")
        time.sleep(0.1)
    return told


class Postern:
    def __init__(self, name, algorithm, database=None, command="serve"):
        self.folder = work / name
        self.folder.mkdir()
        # The rules for passwords: every kind of character, and no two equal ones in a row.
        self.password = "P-x7." + "".join(f"{byte % 10}{'abcdef'[byte % 6]}" for byte in secrets.token_bytes(8))
        self.secret = secrets.token_hex(20)
        config = self.folder / "postern.toml"
        config.write_text(f'[database]\nurl = "{database}"\n' if database else "")
        known = {name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")}
        listen = {
            f"POSTERN_{key}": "127.0.0.1:0"
            for key in (
                "PROXY_LISTEN PROXY_GATEWAY PROXY_EXT_AUTHZ PROXY_HEALTH IDENTITY_LISTEN".split()
                if command == "serve"
                else ["IDENTITY_LISTEN"]
            )
        }
        own = {
            "POSTERN_DATA_DIR": str(self.folder / "data"),
            "POSTERN_POLICIES": str(root / "policies"),
            "POSTERN_LOG_FILTER": "warn,postern=info",
            "POSTERN_LOG_FORMAT": "json",
            "POSTERN_IDENTITY_SIGNING_ALGORITHM": algorithm,
            "POSTERN_BOOTSTRAP_ADMIN_PASSWORD": self.password,
            "POSTERN_BOOTSTRAP_CLIENT_ID": CLIENT,
            "POSTERN_BOOTSTRAP_CLIENT_SECRET": self.secret,
        }
        self.words = [target / "postern", command, "--config", config]
        self.environment = known | listen | own
        self.start()

    def start(self):
        log = (self.folder / "log").open("w")
        self.child = run(server_core, self.words, env=self.environment, stdout=log, stderr=log)
        told = wait(self.ready)
        self.identity, self.doors = told["identity"], told.get("doors")

    def ready(self):
        if self.child.poll() is not None:
            sys.exit("bench: postern ended: " + (self.folder / "log").read_text()[-2000:])
        for line in (self.folder / "log").read_text().splitlines():
            if '"identity":"127' in line:
                record = json.loads(line)
                return record.get("fields", record)
        return None

    def call(self, path, body=None, token=None):
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.identity}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def sign_in(self):
        body = {"grantType": "password", "username": "admin", "password": self.password}
        return self.call("/v1/login/oauth/access_token", body)

    def spent(self):
        """The processor time so far, in seconds."""
        told = 0
        for task in Path(f"/proc/{self.child.pid}/task").iterdir():
            told += int((task / "schedstat").read_text().split()[0])
        return told / 1e9

    def resident(self):
        """Its own memory, in MB. Pages of the program lie on disk, too, and are not counted."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1024

    def wrk(self, path, lua, connections=CONNECTIONS, at=None, seconds=SECONDS):
        script = self.folder / f"{secrets.token_hex(4)}.lua"
        script.write_text(lua + DONE)
        to = f"http://{at or self.identity}{path}"
        words = ["wrk", "-t", 1, "-c", connections, "-d", f"{seconds}s", "-s", script, to]
        return run(load_core, words)

    def load(self, path, lua, **more):
        """Requests a second of the clock, requests a second of the server's core, and p99 in ms."""
        before = self.spent()
        count, took, p99 = told(self.wrk(path, lua, **more))
        return count / took, count / (self.spent() - before), p99

    def stop(self):
        self.child.terminate()
        self.child.wait(30)


def told(child):
    said, complaint = child.communicate(timeout=120)
    line = [line for line in said.splitlines() if line.startswith("told ")]
    if not line:
        sys.exit(f"bench: wrk told nothing: {said}{complaint}")
    count, took, p99, failed = map(int, line[0].split()[1:])
    if failed:
        sys.exit(f"bench: {failed} of {count} requests were not answered well")
    return count, took / 1e6, p99 / 1e3


def post(kind, body):
    return f"wrk.method = 'POST'\nwrk.headers['content-type'] = '{kind}'\nwrk.body = [[{body}]]\n"


def row(title, figures, *ratios):
    wall, core, p99 = figures
    line = f"  {title:<44} {wall:>8.0f} {core:>9.0f} {p99:>8.1f}"
    print(line, *(f"{ratio:>8.2f}" for ratio in ratios), flush=True)


def tokens(raw, postgres):
    print("\n                                                clock/s    core/s   p99 ms  of raw")
    for algorithm in ("ES256", "RS256"):
        for name, database in (("SQLite", None), ("PostgreSQL", postgres)):
            url = database and database.database(f"tokens_{algorithm.lower()}")
            postern = Postern(f"{name}-{algorithm}", algorithm, url)
            ask = f"grant_type=client_credentials&client_id={CLIENT}&client_secret={postern.secret}"
            lua = post("application/x-www-form-urlencoded", ask)
            postern.load("/oauth2/token", lua, seconds=1)
            figures = postern.load("/oauth2/token", lua)
            row(f"client credentials, {algorithm}, {name}", figures, figures[1] / raw[algorithm.lower()])
            file = postern.folder / "tokens"
            seeds = (postern.sign_in()["refreshToken"] for _ in range(2 * CONNECTIONS))
            file.write_text("\n".join(seeds) + "\n")
            figures = postern.load("/v1/login/oauth/refresh_token", REFRESH.replace("TOKENS", str(file)))
            # Three signatures each: access token, ID token, refresh token.
            row(f"refreshes, {algorithm}, {name}", figures, 3 * figures[1] / raw[algorithm.lower()])
            postern.stop()


def sign_ins(raw):
    postern = Postern("sign-ins", "ES256")
    token = postern.sign_in()["accessToken"]
    # A question that the proxy answers by itself, from one who asks again and again.
    question = json.dumps({"sub": "admin", "resource": "accounts", "action": "get", "product": "midaz"})
    lua = post("application/json", question) + f"wrk.headers['authorization'] = 'Bearer {token}'\n"
    check = {"connections": 1, "at": postern.doors}
    told(postern.wrk("/v1/authorize", lua, seconds=1, **check))
    alone = told(postern.wrk("/v1/authorize", lua, **check))[2]
    body = {"grantType": "password", "username": "admin", "password": postern.password}
    enter = post("application/json", json.dumps(body))
    path = "/v1/login/oauth/access_token"
    figures = postern.load(path, enter, connections=4)
    entering = postern.wrk(path, enter, connections=4, seconds=SECONDS + 2)
    time.sleep(1)
    beside = told(postern.wrk("/v1/authorize", lua, **check))[2]
    told(entering)
    print("\n                                                clock/s    core/s   p99 ms  of raw")
    row("password sign-ins", figures, figures[1] / raw["argon2"])
    print(f"  permission checks, p99: {alone:.2f} ms alone, {beside:.2f} ms beside sign-ins")
    postern.stop()


def people():
    postern = Postern("people", "ES256")
    print(f"\n  memory at rest, serve: {postern.resident():.0f} MB", flush=True)
    db = sqlite3.connect(postern.folder / "data/postern.db", timeout=30)
    db.execute(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) "
        "INSERT INTO users (id, org_id, username, username_key, email, email_key, first_name, last_name, "
        "password_hash, created_at) SELECT printf('00000000-0000-4000-8000-%012d', n), o.id, 'p' || n, "
        "'p' || n, 'p' || n || '@example.com', 'p' || n || '@example.com', 'P', 'P', '', o.created_at + n "
        "FROM n, organizations o",
        (PEOPLE,),
    )
    db.commit()
    db.close()
    token = postern.sign_in()["accessToken"]

    def page(number):
        began = time.perf_counter()
        listed = postern.call(f"/v1/users?page={number}&limit=100", token=token)
        assert listed["items"] and listed["total"] == PEOPLE + 1
        return 1e3 * (time.perf_counter() - began)

    last = PEOPLE // 100
    page(1)
    rounds = [(page(1), page(last // 2), page(last)) for _ in range(21)]
    first, middle, end = map(statistics.median, zip(*rounds))
    print(f"  {PEOPLE} people, a page of 100: first {first:.1f} ms, middle {middle:.1f} ms, last {end:.1f} ms")
    print(f"  last to first: {end / first:.2f}")
    print(f"  memory after that: {postern.resident():.0f} MB")
    postern.stop()


def tenants():
    """As many organizations, each with a role, a group and a person of its own, in one process."""
    postern = Postern("tenants", "ES256")
    few = postern.resident()
    postern.stop()
    db = sqlite3.connect(postern.folder / "data/postern.db", timeout=30)
    own = (
        "INSERT INTO organizations (id, title, default_application, created_at) SELECT printf('o%05d', n), 'O', o.default_application, o.created_at FROM n, o",
        "INSERT INTO roles (org_id, name, name_key, product, title, permissions, created_at) "
        "SELECT printf('o%05d', n), 'own', 'own', 'midaz', 'Own', '[\"accounts:get\"]', o.created_at FROM n, o",
        "INSERT INTO groups (org_id, name, name_key, title, created_at) "
        "SELECT printf('o%05d', n), 'team', 'team', 'Team', o.created_at FROM n, o",
        "INSERT INTO group_roles (org_id, group_name, role_name) SELECT printf('o%05d', n), 'team', 'own' FROM n",
        "INSERT INTO users (id, org_id, username, username_key, email, email_key, first_name, last_name, "
        "password_hash, created_at) SELECT printf('00000000-0000-4000-9000-%012d', n), printf('o%05d', n), 'ana', "
        "'ana', 'ana@example.com', 'ana@example.com', 'A', 'A', '', o.created_at FROM n, o",
        "INSERT INTO memberships (org_id, user_id, group_name) SELECT printf('o%05d', n), "
        "printf('00000000-0000-4000-9000-%012d', n), 'team' FROM n",
    )
    count = f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {TENANTS}), "
    for words in own:
        db.execute(count + "o AS (SELECT * FROM organizations ORDER BY created_at LIMIT 1) " + words)
    db.commit()
    db.close()
    began = time.perf_counter()
    postern.start()
    ready = time.perf_counter() - began
    token = postern.sign_in()["accessToken"]
    lua = post("application/json", json.dumps({"resource": "accounts", "action": "get", "product": "midaz"}))
    lua += f"wrk.headers['authorization'] = 'Bearer {token}'\n"
    told(postern.wrk("/v1/authorize", lua, seconds=1, at=postern.doors))
    figures = postern.load("/v1/authorize", lua, at=postern.doors)
    role = {"id": "late", "product": "midaz", "name": "Late", "permissions": ["ledgers:get"]}
    began = time.perf_counter()
    postern.call("/v1/roles", role, token)
    made = time.perf_counter() - began
    print(f"\n  {TENANTS} organizations: ready after {ready:.1f} s, a role made in {1e3 * made:.0f} ms", flush=True)
    print(f"  memory: {few:.0f} MB with one, {postern.resident():.0f} MB with all")
    row("permission checks, with all", figures)
    postern.stop()


def finish():
    for child in reversed(started):
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
    shutil.rmtree(work, ignore_errors=True)
    for folder in Path(tempfile.gettempdir()).glob("postern-bench-pg-*"):
        if postgres and folder == postgres.folder:
            shutil.rmtree(folder, ignore_errors=True)


postgres = None
try:
    told_raw = run(server_core, [target / "examples/raw"]).communicate()[0]
    raw = json.loads(told_raw)
    print("  alone, a second of a core: " + ", ".join(f"{name} {raw[name]:.0f}" for name in raw), flush=True)
    postgres = Postgres()
    tokens(raw, postgres)
    sign_ins(raw)
    people()
    tenants()
finally:
    finish()
