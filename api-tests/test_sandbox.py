"""The daemon shuts itself in: what it may still do goes on working, and what it may not is gone."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import urllib.error

import pytest

from conftest import FATHOMD, MODEL, ROOT, Server
from keyfile import make_file
from raw import Raw, chat, post
from waiting import PATIENCE

ON = ("--sandbox", "on", "--drain-delay", "0s")
PROMPT = "The harbour master writes down each ship that comes in. " * 200  # worth reading from a busy disk


def start(*arguments):
    return [FATHOMD, "serve", "--model", MODEL, "--listen", "127.0.0.1:0", *arguments]


@pytest.fixture(scope="module", autouse=True)
def granted():
    """Skips where the kernel has no Landlock or no seccomp, in the daemon's words."""
    command = start("--allow-root", "--backend", "scripted", *ON)
    daemon = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    said = ""
    for said in daemon.stderr:
        if '"ready"' in said or "sandbox: found on" in said:
            break
    daemon.send_signal(signal.SIGINT)
    daemon.wait(PATIENCE)
    if "sandbox: found on" in said:
        assert "a thread runs already" not in said or "tsan" in FATHOMD, "a thread is left outside"
        pytest.skip(json.loads(said)["message"])


@pytest.fixture
def pilots(tmp_path):
    """A function that starts the pilot, shut in, with a cache on disk that outlives it."""
    running = []

    def start_pilot(*arguments):
        running.append(Server(["--backend", "cpu", "--cache-dir", str(tmp_path / "cache"),
                               "--cache-size", "256MB", "--cache-disk-after",
                               "0s", *ON, *arguments]))
        return running[-1]

    yield start_pilot
    for server in running:
        if server.process.poll() is None:
            assert server.stop() == 0, "".join(server.log[-40:])


def ask(server, content=PROMPT, **fields):
    return server.post("/v1/chat/completions", {
        "model": "deepseek-chat", "messages": [{"role": "user", "content": content}],
        "max_tokens": 4, "temperature": 0, **fields})


def status_of(server):
    lines = pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def said(server, event):
    return [e for e in server.events if e.get("event") == event]


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_it_serves_caches_to_disk_and_starts_again(pilots):
    server = pilots()
    first = ask(server)
    assert cached(first) == 0 and cached(ask(server)) > 0
    assert server.stop() == 0
    again = pilots()
    answer = ask(again)
    assert cached(answer) > 0
    assert answer["choices"][0]["message"] == first["choices"][0]["message"]
    assert again.stop() == 0


def test_one_line_says_what_is_in_force(pilots):
    server = pilots()
    (line,) = said(server, "sandbox")
    assert line["landlock"] >= 1 and line["seccomp"] == "kill"
    assert line["capabilities"] == "none" and line["connecting"] is False
    status = status_of(server)
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    for which in ("CapInh", "CapPrm", "CapEff", "CapAmb", *(["CapBnd"] if os.geteuid() == 0 else [])):
        assert int(status[which], 16) == 0, which
    limits = pathlib.Path(f"/proc/{server.process.pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]


def test_every_thread_is_inside(pilots):
    server = pilots()
    ask(server)
    tasks = pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()
    for task in tasks:
        lines = (task / "status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        assert status["Seccomp"] == "2" and int(status["CapEff"], 16) == 0, status["Name"]


def test_without_being_allowed_root_is_refused(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("not root here")
    done = subprocess.run(start("--backend", "scripted"), cwd=ROOT, capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 2 and "--allow-root" in done.stderr


def test_allow_core_warns(serve):
    server = serve("--allow-core")
    (line,) = said(server, "allow_core")
    assert line["level"] == "warn"


def holds(server, secret):
    """Whether the daemon's memory has these bytes anywhere that is written to."""
    pid = server.process.pid
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last = (int(x, 16) for x in line.split()[0].split("-"))
            if not line.split()[1].startswith("rw") or last - first > 1 << 30:
                continue
            try:
                memory.seek(first)
                if secret in memory.read(last - first):
                    return True
            except OSError:  # a guard page, or a mapping that just went
                pass
    return False


@pytest.mark.skipif("asan" in FATHOMD or "tsan" in FATHOMD, reason="a sanitizer keeps copies")
def test_a_key_is_not_kept_in_memory(serve, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("not root here, so its memory cannot be read")
    [key] = make_file(tmp_path / "keys", "acme")
    secret = key.split(".")[1].encode()
    server = serve("--keys", str(tmp_path / "keys"), script=[{"step_us": 5000, "generate": 400}])
    canary = b"the words that are said while the key is looked for"
    with Raw(server) as raw:
        raw.say(post("/v1/chat/completions", chat(stream=True, max_tokens=400, messages=[
            {"role": "user", "content": canary.decode()}]),
            f"Authorization: Bearer {key}\r\nX-Trace: {canary.decode()}"))
        raw.until(b"data: ")
        assert holds(server, canary), "the search finds nothing at all"
        assert not holds(server, secret)


class Trap:
    """A listener that counts who comes."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.port = self.socket.getsockname()[1]
        self.visits = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.wait, daemon=True)
        self.thread.start()

    def wait(self):
        while not self.over.is_set():
            try:
                self.socket.accept()[0].close()
                self.visits += 1
            except TimeoutError:
                pass

    def close(self):
        self.over.set()
        self.thread.join(5)
        self.socket.close()


def bait(url):
    """Requests that name an address, in every field in which other servers would go and look."""
    said = {"role": "user", "content": "Look at it."}
    image = {"type": "image_url", "image_url": {"url": url}}
    return [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [image]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"Fetch {url} now"}]}),
        ("/v1/chat/completions", {"messages": [said], "web_search_options": {}, "tools": [
            {"type": "function", "function": {"name": "web_search", "parameters": {
                "type": "object", "$ref": url}}}]}),
        ("/v1/chat/completions", {"messages": [said], "response_format": {
            "type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": url}}}}),
        ("/v1/responses", {"input": [{"role": "user", "content": [
            {"type": "input_file", "file_url": url}, {"type": "input_image", "image_url": url}]}]}),
        ("/v1/responses", {"input": "Look.", "tools": [
            {"type": "mcp", "server_label": "a", "server_url": url}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": url}}]}]}),
        ("/v1/messages", {"messages": [said], "mcp_servers": [
            {"type": "url", "url": url, "name": "a"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [
            {"type": "document", "source": {"type": "url", "url": url}}]}]}),
    ]


def sockets_of(server):
    """(local port, remote port) of the daemon's TCP sockets; a listening one has remote port 0."""
    folder = pathlib.Path(f"/proc/{server.process.pid}/fd")
    names = [os.readlink(path) for path in folder.iterdir()]
    inodes = {name[8:-1] for name in names if name.startswith("socket:")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            part = line.split()
            if part[9] in inodes:
                found.append(tuple(int(part[i].rsplit(":", 1)[1], 16) for i in (1, 2)))
    return found


def status_of_post(server, path, body):
    try:
        server.post(path, body)
        return 200
    except urllib.error.HTTPError as error:
        return error.code


def test_it_never_connects_to_anybody(serve):
    server = serve("--sandbox", "on")
    trap = Trap()
    statuses = {}
    for path, fields in bait(f"http://127.0.0.1:{trap.port}/picture.png"):
        body = {"model": "deepseek-chat", "max_tokens": 4, **fields}
        statuses[path, json.dumps(fields)[:60]] = status_of_post(server, path, body)
    ports = sockets_of(server) if os.geteuid() == 0 else []
    time.sleep(0.1)
    trap.close()
    assert trap.visits == 0
    assert all(status < 500 for status in statuses.values()), statuses
    assert all(local == server.address[1] for local, _ in ports), ports
