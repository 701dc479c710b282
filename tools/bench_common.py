"""What the benches in Python share: programs that have a core of their own, what they spent, and wrk.

The server has one core, the load and everything else another. Everything that is started here listens on
loopback or in its own folder, and is ended by `finish`."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

target = Path(sys.argv[1]).resolve() / "dist"
root = Path(__file__).resolve().parent.parent
work = Path(tempfile.mkdtemp(prefix="postern-bench-"))
cores = sorted(os.sched_getaffinity(0))
server_core, load_core = cores[0], cores[min(1, len(cores) - 1)]
started = []

# What wrk tells at the end.
DONE = """
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("told %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(99), e.connect + e.read + e.write + e.timeout, e.status))
end
"""


def run(core, command, **more):
    more = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    child = subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], **more)
    started.append(child)
    return child


def wait(so):
    until = time.monotonic() + 60
    while not (told := so()):
        if time.monotonic() > until:
            sys.exit("bench: it did not start in a minute")
        time.sleep(0.1)
    return told


def raw():
    """What a second of the server's core makes of what tokens cannot be cheaper than."""
    told = json.loads(run(server_core, [target / "examples/raw"]).communicate()[0])
    print("  alone, a second of a core: " + ", ".join(f"{name} {told[name]:.0f}" for name in told), flush=True)
    return told


def environment(**own):
    """This one without what a developer has set for Postern, and with that."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")}
    return known | {f"POSTERN_{key}": value for key, value in own.items()}


class Server:
    """A program on the server's core, with a folder of its own: `self.child` in `self.folder`, its log in `log`."""

    def __init__(self, name):
        self.folder = work / name
        self.folder.mkdir()

    def spawn(self, words, **more):
        log = (self.folder / "log").open("w")
        self.child = run(server_core, words, **{"stdout": log, "stderr": log} | more)

    def told(self, key):
        """The record that it logged with that key, an address; once it is there."""

        def look():
            if self.child.poll() is not None:
                sys.exit(f"bench: {self.folder.name} ended: " + (self.folder / "log").read_text()[-2000:])
            for line in (self.folder / "log").read_text().splitlines():
                if f'"{key}":"127' in line:
                    record = json.loads(line)
                    return record.get("fields", record)
            return None

        return wait(look)

    def spent(self):
        """The processor time so far, in seconds."""
        told = 0
        for task in Path(f"/proc/{self.child.pid}/task").iterdir():
            told += int((task / "schedstat").read_text().split()[0])
        return told / 1e9

    def memory(self, which="RssAnon"):
        """A line of `/proc/pid/status`, in MB: `RssAnon` is its own; `VmRSS` has its program's pages, too."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith(f"{which}:"):
                return int(line.split()[1]) / 1024
        return None

    def stop(self):
        self.child.terminate()
        self.child.wait(30)


class Postern(Server):
    """Identity, alone or with the proxy (`serve`), and the policies of this repository."""

    client = "bench0000000000000000"

    def __init__(self, name, algorithm, database=None, command="serve"):
        super().__init__(name)
        # The rules for passwords: every kind of character, and no two equal ones in a row.
        self.password = "P-x7." + "".join(f"{byte % 10}{'abcdef'[byte % 6]}" for byte in secrets.token_bytes(8))
        self.secret = secrets.token_hex(20)
        config = self.folder / "postern.toml"
        config.write_text(f'[database]\nurl = "{database}"\n' if database else "")
        listen = dict.fromkeys(
            "PROXY_LISTEN PROXY_GATEWAY PROXY_EXT_AUTHZ PROXY_HEALTH IDENTITY_LISTEN".split()
            if command == "serve"
            else ["IDENTITY_LISTEN"],
            "127.0.0.1:0",
        )
        self.words = [target / "postern", command, "--config", config]
        self.environment = environment(
            DATA_DIR=str(self.folder / "data"),
            POLICIES=str(root / "policies"),
            LOG_FILTER="warn,postern=info",
            LOG_FORMAT="json",
            IDENTITY_SIGNING_ALGORITHM=algorithm,
            BOOTSTRAP_ADMIN_PASSWORD=self.password,
            BOOTSTRAP_CLIENT_ID=self.client,
            BOOTSTRAP_CLIENT_SECRET=self.secret,
            **listen,
        )
        self.start()

    def start(self):
        self.spawn(self.words, env=self.environment)
        told = self.told("identity")
        self.identity, self.doors = told["identity"], told.get("doors")

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


def wrk(url, lua, connections, seconds):
    """Start it on the core of the load, with that script."""
    script = work / f"{secrets.token_hex(4)}.lua"
    script.write_text(lua + DONE)
    words = ["wrk", "-t", 1, "-c", connections, "-d", f"{seconds}s", "--timeout", "30s", "-s", script, url]
    return run(load_core, words)


def told(child, refused=0.0):
    """Of a run of wrk: requests, seconds, and the 99th percentile in ms; that share of them was to be refused."""
    said, complaint = child.communicate(timeout=600)
    line = [line for line in said.splitlines() if line.startswith("told ")]
    if not line:
        sys.exit(f"bench: wrk told nothing: {said}{complaint}")
    count, took, p99, failed, denied = map(int, line[0].split()[1:])
    if failed or abs(denied - refused * count) > 0.01 * refused * count + (100 if refused else 0):
        sys.exit(f"bench: of {count} requests {failed} were not answered and {denied} refused")
    return count, took / 1e6, p99 / 1e3


def finish():
    for child in reversed(started):
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
    shutil.rmtree(work, ignore_errors=True)
