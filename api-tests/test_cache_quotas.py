"""What each tenant may keep of computed prefixes: the pilot on the CPU, two tenants, one of them greedy.

The device's memory holds the windows of some eight prompts; the greedy one asks twelve.
"""

import http.client
import signal
import time

from keyfile import make_key, write_file
from operator_socket import Operator
from test_cache import SYSTEM, ask

SMALL = ["--backend", "cpu", "--max-seqs", "2", "--context", "1024", "--kv-memory", "11MiB"]
PROMPTS = 12
ONE = 800_000  # bytes: some more than one prompt keeps


def in_time(true, seconds=30):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


class Room:
    """A daemon, and its key file of tenants, each with one key: write(name={...}) writes it anew."""

    def __init__(self, serve, tmp_path, **tenants):
        self.path, self.made = tmp_path / "keys.json", {}
        self.operator = Operator(tmp_path / "admin.sock")
        self.write(**tenants)
        self.server = serve(*SMALL, "--keys", str(self.path), "--admin-socket",
                            str(self.operator.path))

    def write(self, **tenants):
        for name in tenants:
            self.made.setdefault(name, make_key("key-" + name, name, scopes=["api"]))
        write_file(self.path, [{"name": name, **more} for name, more in tenants.items()],
                   [self.made[name][1] for name in tenants])

    def reload(self, **tenants):
        self.write(**tenants)
        self.server.process.send_signal(signal.SIGHUP)

    def hit(self, name, number=0):
        """Asks one of several prompts that have nothing in common: tokens that were not computed."""
        system = f"{number} is the number of this prompt. {SYSTEM}"
        return ask(self.server, "What now?", self.made[name][0], system=system)["hit"]

    def be_greedy(self, name):
        for number in range(PROMPTS):
            self.hit(name, number)

    def held(self, name):
        """Bytes in the device's memory."""
        rows = self.operator.get("/tenants")["tenants"]
        return next(row["used"]["cache"]["device"] for row in rows if row["name"] == name)


def test_greedy_tenant_pushes_nobody_else_out(serve, tmp_path):
    room = Room(serve, tmp_path, greedy={}, modest={})
    room.hit("modest")
    room.be_greedy("greedy")
    assert room.hit("modest") > 0


def test_within_one_group_what_is_oldest_goes(serve, tmp_path):
    room = Room(serve, tmp_path, greedy={"group": "one"}, modest={"group": "one"})
    room.hit("modest", 99)
    room.be_greedy("greedy")
    assert room.hit("modest", 99) == 0


def test_tenant_keeps_no_more_than_its_limit_and_is_told_of_no_error(serve, tmp_path):
    room = Room(serve, tmp_path, greedy={"limits": {"cache_bytes": ONE}}, modest={})
    room.hit("modest")
    room.be_greedy("greedy")
    in_time(lambda: room.held("greedy") <= ONE)
    assert room.held("greedy") > 0 and room.hit("greedy", PROMPTS - 1) > 0  # the latest
    assert room.hit("modest") > 0 and room.hit("greedy", 0) == 0
    line = next(at for at in room.operator.ctl("tenants").splitlines() if at.startswith("greedy"))
    assert line.split()[-1] == str(ONE)


def test_reload_changes_the_limit_of_what_is_there(serve, tmp_path):
    room = Room(serve, tmp_path, greedy={"limits": {"cache_bytes": 1}}, modest={})
    assert room.hit("greedy") == room.hit("greedy") == 0
    room.reload(greedy={}, modest={})
    in_time(lambda: room.hit("greedy") > 0)
    room.hit("modest")
    room.reload(greedy={"limits": {"cache_bytes": 1}}, modest={})
    in_time(lambda: room.held("greedy") == 0)  # and nobody asked anything
    assert room.hit("modest") > 0


def metrics(server, key):
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    connection.request("GET", "/metrics", headers={"X-Api-Key": key})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, {line for line in text.splitlines() if "tenant_cache_bytes{" in line}


def test_what_tenants_keep_is_told_to_those_who_may_read_metrics_alone(serve, tmp_path):
    room = Room(serve, tmp_path, one={}, other={})
    room.made["other"] = make_key("key-reads", "other", scopes=["metrics"])
    room.reload(one={}, other={})
    room.hit("one")
    in_time(lambda: metrics(room.server, room.made["other"][0])[0] == 200)
    assert metrics(room.server, room.made["one"][0]) == (403, set())
    _, told = metrics(room.server, room.made["other"][0])
    bytes_of = {tuple(label for label in ("one", "other", "device", "host", "disk")
                      if f'"{label}"' in line): float(line.split()[-1]) for line in told}
    assert bytes_of.pop(("one", "device")) == room.held("one") > 0
    assert set(bytes_of.values()) == {0} and ("other", "disk") in bytes_of
