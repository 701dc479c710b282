#!/usr/bin/env python3
"""Measures what Postern costs beside others that do the same job, and a sidecar's own figures: tokens never
seen before, memory, and the start. Prints ratios; docs/performance.md says what they mean.

    tools/bench-peers.py TARGET [TOKENS]    the folder that Cargo builds into: `release/postern` and
                                            `release/examples/{bare,raw}` are there; and how many tokens a
                                            sidecar sees, whose memory is then looked at"""

import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys

import bench_job as job
from bench_common import Server, environment, finish, load_core, root, run, server_core, target, told, wait, work, wrk

ROUNDS = 5
SECONDS = 4
CONNECTIONS = 32

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


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


class Sidecar(Server):
    """`postern proxy` with a policy folder and an issuer's keys, as shipped: it logs what it decides."""

    def __init__(self, name, upstream, keys):
        super().__init__(name)
        (self.folder / "policies/bench").mkdir(parents=True)
        (self.folder / "policies/bench/product.yaml").write_text(job.manifest())
        config = self.folder / "postern.toml"
        # The door believes what a server on this machine says.
        config.write_text(
            f'[proxy]\ntrusted_proxies = ["127.0.0.1"]\n[[product]]\nname = "bench"\nupstream = "http://{upstream}"\n'
        )
        self.words = [target / "postern", "proxy", "--config", config, "--policies", self.folder / "policies"]
        self.words += ["--issuer", job.ISSUER, "--jwks", keys / "jwks.json"]
        self.start()

    def start(self, **listen):
        free = dict.fromkeys("PROXY_LISTEN PROXY_GATEWAY PROXY_EXT_AUTHZ PROXY_HEALTH".split(), "127.0.0.1:0")
        decisions = (self.folder / "decisions").open("w")
        self.spawn(self.words, env=environment(LOG_FORMAT="json", **free | listen), stdout=decisions)
        said = self.told("doors")
        self.doors, self.gateway = said["doors"], said["gateway"]


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
    for title, mapped in (("HAProxy, a rule a route", False), ("HAProxy, routes looked up", True)):
        name = f"haproxy-{which}-{'map' if mapped else 'rules'}"
        yield title, Peer(name, lambda at, mapped=mapped: job.haproxy(at, upstream, then, mapped), haproxy)
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
        postern = Sidecar("passes" if inline else "answers", upstream, work)
        own = ("Postern's gateway", postern, postern.gateway, job.direct)
        if not inline:
            own = ("Postern's door for nginx", postern, postern.doors, job.asked)
        others = [(title, peer, peer.address, job.direct) for title, peer in peers(upstream, inline)]
        compare("passing to the same upstream" if inline else "answering only", [own, *others], requests)
        for one in (own, *others):
            one[1].stop()


def upstream():
    """Answers everything with the same few bytes."""
    return run(load_core, [target / "examples/bare", "upstream"], stderr=subprocess.DEVNULL).stdout.readline().strip()


try:
    print(f"  medians of {ROUNDS} rounds of {SECONDS} s; {CONNECTIONS} connections, kept alive; server on core", end=" ")
    print(f"{server_core}, load and upstream on core {load_core}", flush=True)
    the_same_job(upstream())
finally:
    finish()
