"""The operator's side of a daemon: its unix socket, and fathomctl."""

import http.client
import json
import os
import pathlib
import socket
import subprocess

from conftest import FATHOMD
from waiting import PATIENCE

FATHOMCTL = str(pathlib.Path(FATHOMD).with_name("fathomctl"))


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout=PATIENCE):
        super().__init__("operator", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Operator:
    def __init__(self, path):
        self.path = path

    def ask(self, method, path, body=None):
        """(status, object)"""
        connection = Connection(self.path)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        text = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.request(method, path, text, headers)
        answer = connection.getresponse()
        data = answer.read().decode()
        connection.close()
        is_json = answer.getheader("Content-Type") == "application/json"
        return answer.status, json.loads(data) if is_json else data

    def get(self, path):
        status, answer = self.ask("GET", path)
        assert status == 200, answer
        return answer

    def post(self, path, body=None):
        status, answer = self.ask("POST", path, body)
        assert status == 200, answer
        return answer

    def refusal(self, path, body=None):
        """(status, sentence)"""
        status, answer = self.ask("POST", path, body)
        return status, answer["error"]["message"]

    def ctl(self, *words, code=0, **environment):
        """What fathomctl prints; its exit code must be `code`."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("FATHOM_")}
        env.update(FATHOM_ADMIN_SOCKET=str(self.path), **environment)
        done = subprocess.run([FATHOMCTL, *words], capture_output=True, text=True, env=env,
                              timeout=PATIENCE)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr
