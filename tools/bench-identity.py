#!/usr/bin/env python3
"""Measures what tokens, sign-ins and lists of the Identity service cost, and prints ratios.
docs/performance.md says what they mean.

    tools/bench-identity.py TARGET     the folder that Cargo builds into: `dist/postern` and
                                       `dist/examples/raw` are there

The server has one core, the load and PostgreSQL another. Everything that it starts listens on loopback or
in its own folder and is ended with it."""

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import bench_common
from bench_common import Postern, finish, load_core, run, told, wait

SECONDS = 4
CONNECTIONS = 16
PEOPLE = 100_000
TENANTS = 10_000

# Refresh tokens are good once, so each answer's is used by the request after.
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


class Asked(Postern):
    """The same, and what loads it."""

    def wrk(self, path, lua, connections=CONNECTIONS, at=None, seconds=SECONDS):
        return bench_common.wrk(f"http://{at or self.identity}{path}", lua, connections, seconds)

    def load(self, path, lua, **more):
        """Requests a second of the clock, requests a second of the server's core, and p99 in ms."""
        before = self.spent()
        count, took, p99 = told(self.wrk(path, lua, **more))
        return count / took, count / (self.spent() - before), p99


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
            postern = Asked(f"{name}-{algorithm}", algorithm, url)
            ask = f"grant_type=client_credentials&client_id={postern.client}&client_secret={postern.secret}"
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
    postern = Asked("sign-ins", "ES256")
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
    postern = Asked("people", "ES256")
    print(f"\n  memory at rest, serve: {postern.memory():.0f} MB", flush=True)
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
    print(f"  memory after that: {postern.memory():.0f} MB")
    postern.stop()


def tenants():
    """As many organizations, each with a role, a group and a person of its own, in one process."""
    postern = Asked("tenants", "ES256")
    few = postern.memory()
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
    print(f"  memory: {few:.0f} MB with one, {postern.memory():.0f} MB with all")
    row("permission checks, with all", figures)
    postern.stop()


postgres = None
try:
    raw = bench_common.raw()
    postgres = Postgres()
    tokens(raw, postgres)
    sign_ins(raw)
    people()
    tenants()
finally:
    finish()
    if postgres:
        shutil.rmtree(postgres.folder, ignore_errors=True)
