"""A client that says exactly the bytes it is told, and reads what comes back."""

import json
import select
import socket
import time

import shapes
from waiting import PATIENCE


class Raw:
    def __init__(self, server, timeout=PATIENCE, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(server.address)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def say(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def more(self):
        """Reads once; False when the other side has closed, in whatever way."""
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            return False
        self.buffer += data
        return bool(data)

    def until(self, end):
        while end not in self.buffer:
            if not self.more():
                raise AssertionError(f"closed before {end!r}: {self.buffer[-300:]!r}")
        head, self.buffer = self.buffer.split(end, 1)
        return head

    def answer(self, head_only=False):
        """One whole answer: status, headers by lower-case name, body. None when there is none."""
        answer = self.read_answer(head_only)
        if answer:
            shapes.look(answer[1].get("content-type", ""), answer[2])
        return answer

    def read_answer(self, head_only):
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return None
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers[name.strip().lower()] = value.strip()
        if status == 100:
            return self.read_answer(head_only)
        if head_only or status == 204:
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                size = int(self.until(b"\r\n"), 16)
                while len(self.buffer) < size + 2:
                    assert self.more()
                body, self.buffer = body + self.buffer[:size], self.buffer[size + 2 :]
                if size == 0:
                    return status, headers, body
        size = int(headers.get("content-length", 0))
        while len(self.buffer) < size:
            assert self.more(), "closed inside a body"
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return status, headers, body

    def readable(self, seconds):
        """Does something come in this time, if only the end?"""
        return bool(select.select([self.socket], [], [], seconds)[0])

    def closes(self, seconds=PATIENCE):
        """Does the other side close in this time? What it still sends is dropped."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.readable(left) and not self.more():
                return True
        return False


def post(path, body, *headers):
    """The bytes of a POST; body is bytes, or an object for JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Content-Type: application/json",
             f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def chat(content="hello", **more):
    return {"model": "pilot", "messages": [{"role": "user", "content": content}], **more}
