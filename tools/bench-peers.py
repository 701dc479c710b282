#!/usr/bin/env python3
"""Measures what Postern costs beside others that do the same job, and a sidecar's own figures: tokens never
seen before, memory, and the start. Prints ratios; docs/performance.md says what they mean.

    tools/bench-peers.py TARGET [TOKENS]    the folder that Cargo builds into: `dist/postern` and
                                            `dist/examples/{bare,raw}` are there; and how many tokens a
                                            sidecar sees, whose memory is then looked at"""

import http.client
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

import bench_common
import bench_job as job
from bench_common import Postern, Server, environment, finish, load_core, root, run, server_core, target, told, wait
from bench_common import work, wrk

ROUNDS = 5
SECONDS = 4
CONNECTIONS = 32
COLD = 20_000
STARTS = 7
DISTINCT = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
# What `proxy.remembered_tokens` is by itself.
REMEMBERED = 100_000

# Requests as they stand in a file, one after the other and again from the beginning.
WALK = """
local all = {}
for one in io.open("FILE", "rb"):read("*a"):gmatch("[^\\1]+") do all[#all + 1] = one end
local at = 0
function request()
  at = at % #all + 1
  return all[at]
end
"""
# So many tokens of a file, each once, after those that it skips; then it says so by a file, and is ended.
ONCE = """
local tokens, last, left, over = io.lines("FILE"), "", COUNT, false
for _ = 1, SKIP do tokens() end
function request()
  left = left - 1
  local token = left >= 0 and tokens()
  if token then
    last = "GET PATH HTTP/1.1\\r\\nhost: product.example\\r\\nauthorization: Bearer " .. token .. "\\r\\n\\r\\n"
  elseif not over then
    over = true
    io.open("FILE.over", "w"):close()
    wrk.thread:stop()
  end
  return last
end
"""


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


# The door believes what a server on this machine says.
PRODUCT = '[proxy]\ntrusted_proxies = ["127.0.0.1"]\n[[product]]\nname = "{name}"\nupstream = "http://{upstream}"\n'


class Proxy(Server):
    """`postern proxy`, as shipped: it logs what it decides."""

    def __init__(self, name, config, *words):
        super().__init__(name)
        file = self.folder / "postern.toml"
        file.write_text(config)
        self.words = [target / "postern", "proxy", "--config", file, *words]

    def launch(self, doors="127.0.0.1:0"):
        listen = dict.fromkeys("PROXY_GATEWAY PROXY_EXT_AUTHZ PROXY_HEALTH".split(), "127.0.0.1:0")
        listen |= {"LOG_FORMAT": "json", "PROXY_LISTEN": doors, "DATA_DIR": str(self.folder / "data")}
        with (self.folder / "decisions").open("w") as decisions:
            self.spawn(self.words, env=environment(**listen), stdout=decisions)

    def start(self):
        self.launch()
        said = self.told("doors")
        self.doors, self.gateway = said["doors"], said["gateway"]
        return self

    def first(self, request):
        """Seconds from its exec until a door answers that with 200."""
        doors = free()
        host, port = doors.split(":")
        began = time.perf_counter()
        self.launch(doors)
        while time.perf_counter() < began + 30:
            try:
                with socket.create_connection((host, int(port))) as line:
                    line.sendall(request.encode())
                    said = http.client.HTTPResponse(line)
                    said.begin()
                    took = time.perf_counter() - began
                    if said.status == 200:
                        return took
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.001)
        sys.exit(f"bench: {self.folder.name} answered nothing in 30 s: " + (self.folder / "log").read_text()[-2000:])


def sidecar(name, upstream, keys):
    """With a policy folder, and an issuer's keys in that folder."""
    policies = work / "policies"
    (policies / "bench").mkdir(parents=True, exist_ok=True)
    (policies / "bench/product.yaml").write_text(job.manifest())
    config = PRODUCT.format(name="bench", upstream=upstream)
    return Proxy(name, config, "--policies", policies, "--issuer", job.ISSUER, "--jwks", keys / "jwks.json")


class Peer(Server):
    """Somebody else's, at an address of its own."""

    def __init__(self, name, configure, words):
        super().__init__(name)
        self.address = free()
        file = self.folder / "configuration"
        file.write_text(configure(self.address))
        path = os.environ["PATH"] + ":/usr/sbin"
        self.spawn([*words, file], env={"PATH": path, "HOME": str(self.folder)})
        wait(self.answers)

    def answers(self):
        if self.child.poll() is not None:
            sys.exit(f"bench: {self.folder.name} ended: " + (self.folder / "log").read_text()[-2000:])
        host, port = self.address.split(":")
        with socket.socket() as one:
            return one.connect_ex((host, int(port))) == 0


def peers(upstream, inline):
    """Those that Postern is compared with: title, and the server."""
    which = "passes" if inline else "answers"
    then = "allow" if inline else "return status 200"
    haproxy = [shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin"), "-db", "-f"]
    envoy = [root / "target/servers/bin/envoy", "--disable-hot-restart", "--concurrency", 1, "--log-level", "warn", "-c"]
    for title, quick in (("HAProxy, a rule a route", False), ("HAProxy, as quick as we know", True)):
        name = f"haproxy-{which}-{'quick' if quick else 'rules'}"
        yield title, Peer(name, lambda at, quick=quick: job.haproxy(at, upstream, then, quick), haproxy)
    yield "Envoy", Peer(f"envoy-{which}", lambda at: job.envoy(at, upstream, inline), envoy)


def answer(address, requests, form):
    """Put each request once, and end unless each is answered with the status that it must have."""
    host, port = address.split(":")
    line = None
    for request in requests:
        if line is None:
            line = socket.create_connection((host, int(port)), timeout=30)
        line.sendall(form(*request).encode())
        said = http.client.HTTPResponse(line)
        said.begin()
        said.read()
        if said.status != request[3]:
            token = job.said(request[2])
            sys.exit(f"bench: {address} answered {said.status}: {request[0]} {request[1]} must be {request[3]} for {token}")
        if said.will_close:
            line.close()
            line = None
    if line:
        line.close()


def compare(title, candidates, requests):
    """Candidates: title, server, address, and the form in which it is asked. The first is Postern."""
    scripts = {}
    for form in {one[3] for one in candidates}:
        file = work / f"{form.__name__}.requests"
        file.write_bytes("\1".join(form(*request) for request in requests).encode())
        scripts[form] = WALK.replace("FILE", str(file))
    refused = sum(one[3] != 200 for one in requests) / len(requests)
    for _, _, address, form in candidates:
        answer(address, requests, form)
    rounds = {}
    for turn in range(ROUNDS + 1):
        for name, server, address, form in candidates:
            before = server.spent()
            # The first is to get warm.
            load = wrk(f"http://{address}", scripts[form], CONNECTIONS, SECONDS if turn else 2)
            count, took, p99 = told(load, refused)
            if turn:
                rounds.setdefault(name, []).append((count / took, p99, 1e6 * (server.spent() - before) / count))
    print(f"\n  {title:<42}   req/s   p99 ms   CPU µs  Postern's CPU ×")
    medians = {name: [statistics.median(column) for column in zip(*figures)] for name, figures in rounds.items()}
    own = medians[candidates[0][0]][2]
    for name, (rate, p99, cpu) in medians.items():
        print(f"  {name:<42} {rate:>7.0f} {p99:>8.1f} {cpu:>8.1f} {own / cpu:>8.2f}", flush=True)


def the_same_job(upstream):
    requests = job.mix()
    for inline in (True, False):
        postern = sidecar("passes" if inline else "answers", upstream, work).start()
        own = ("Postern's gateway", postern, postern.gateway, job.direct)
        if not inline:
            own = ("Postern's door for nginx", postern, postern.doors, job.asked)
        others = [(title, peer, peer.address, job.direct) for title, peer in peers(upstream, inline)]
        compare("passing to the same upstream" if inline else "answering only", [own, *others], requests)
        for one in (own, *others):
            one[1].stop()


def once(server, file, path, count, skip=0):
    """Let it see so many tokens of a file once; processor µs a request, and requests a second."""
    over = file.with_name(file.name + ".over")
    over.unlink(missing_ok=True)
    script = ONCE
    for name, value in {"FILE": file, "PATH": path, "COUNT": count, "SKIP": skip}.items():
        script = script.replace(name, str(value))
    began, before = time.perf_counter(), server.spent()
    load = wrk(f"http://{server.gateway}", script, CONNECTIONS, 3600)
    while not over.exists():
        if load.poll() is not None:
            sys.exit(f"bench: wrk ended: {load.communicate()}")
        time.sleep(0.05)
    took = time.perf_counter() - began
    load.send_signal(signal.SIGINT)
    count, _, _ = told(load)
    return 1e6 * (server.spent() - before) / count, count / took


def cold(upstream):
    """Tokens that it has not seen before, beside one that it has, and beside their signatures alone."""
    raw = bench_common.raw()
    print(f"\n  tokens never seen before, {COLD} a round   CPU µs  remembered  signature alone  what is more, ×")
    for algorithm in ("RS256", "ES256"):
        rounds = []
        for turn in range(3):
            said, path = job.distinct(COLD)
            file = job.sign(algorithm, work / f"cold-{algorithm}-{turn}", said)
            postern = sidecar(f"unseen-{algorithm}-{turn}", upstream, file.parent).start()
            first, _ = once(postern, file, path, COLD)
            with file.open() as tokens:
                request = job.direct("GET", path, tokens.readline().strip(), 200)
            walked = work / "one.requests"
            walked.write_text(request)
            before = postern.spent()
            count, _, _ = told(wrk(f"http://{postern.gateway}", WALK.replace("FILE", str(walked)), CONNECTIONS, 2))
            rounds.append((first, 1e6 * (postern.spent() - before) / count))
            postern.stop()
        first, again = (statistics.median(column) for column in zip(*rounds))
        alone = 1e6 / raw[f"{algorithm.lower()} checked"]
        print(f"  {algorithm:<42} {first:>6.1f} {again:>11.1f} {alone:>16.1f} {(first - again) / alone:>16.2f}", flush=True)


def memory(upstream):
    """Of a sidecar that has seen no token, as many as it remembers, and many more."""
    said, path = job.distinct(DISTINCT)
    folder = work / "many"
    file = job.sign("ES256", folder, said)
    postern = sidecar("sees-many", upstream, folder).start()
    print("\n  a sidecar's memory, MB                         its own   in all    most", flush=True)

    def tell(title):
        own, every, most = (postern.memory(which) for which in ("RssAnon", "VmRSS", "VmHWM"))
        print(f"  {title:<44} {own:>9.1f} {every:>8.1f} {most:>7.1f}", flush=True)

    time.sleep(1)
    tell("at rest")
    seen = min(REMEMBERED, DISTINCT)
    _, rate = once(postern, file, path, seen)
    tell(f"after {seen} tokens, {rate:.0f} a second")
    if DISTINCT > seen:
        _, rate = once(postern, file, path, DISTINCT - seen, seen)
        tell(f"after {DISTINCT} tokens, {rate:.0f} a second")
    postern.stop()
    file.unlink()


def starts(upstream):
    """From the exec to the first request that a door lets pass."""
    said, path = job.distinct(1)
    file = job.sign("RS256", work / "start", said)
    request = job.asked("GET", path, file.read_text().strip(), 200)
    folder = sidecar("starts", upstream, file.parent)

    # One that follows an identity service, which is gone when it starts again.
    identity = Postern("feed", "RS256", command="identity")
    token = identity.sign_in()["accessToken"]
    application = identity.call("/v1/applications", {"name": "postern-proxy", "description": "bench"}, token)
    key = identity.call("/internal/v1/feed-key")["x"]
    feed = (
        f'[feed]\nurl = "http://{identity.identity}"\nclient_id = "{application["clientId"]}"\n'
        f'client_secret = "{application["clientSecret"]}"\nkeys = ["{key}"]\n'
    )
    follower = Proxy("follows", feed + PRODUCT.format(name="midaz", upstream=upstream))
    known = job.asked("GET", "/v1/organizations", token, 200).replace("nginx/bench", "nginx/midaz")
    follower.first(known)
    wait(lambda: any((follower.folder / "data/feed").glob("*")))
    follower.stop()
    identity.stop()

    print("\n  from exec to the first decision                   ms", flush=True)
    for title, proxy, question in (("a policy folder", folder, request), ("a spool, identity gone", follower, known)):
        rounds = []
        for _ in range(STARTS):
            rounds.append(1e3 * proxy.first(question))
            proxy.stop()
        print(f"  {title:<44} {statistics.median(rounds):>7.0f}", flush=True)


def upstream():
    """Answers everything with the same few bytes."""
    return run(load_core, [target / "examples/bare", "upstream"], stderr=subprocess.DEVNULL).stdout.readline().strip()


try:
    print(f"  medians of {ROUNDS} rounds of {SECONDS} s; {CONNECTIONS} connections, kept alive; server on core", end=" ")
    print(f"{server_core}, load and upstream on core {load_core}", flush=True)
    product = upstream()
    the_same_job(product)
    cold(product)
    memory(product)
    starts(product)
finally:
    finish()
