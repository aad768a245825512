"""A server that has the page's files from a daemon and answers all else as a test says: for what a daemon
does not do on demand."""

import http.server
import json
import threading
import urllib.request
from waiting import PATIENCE

FILES = ("/", "/page.js", "/page.css", "/icon.svg")
MODELS = {"object": "list", "data": [{"id": "pilot", "object": "model", "context_length": 4096}]}


class Stub:
    """answers: path -> (status, headers, body), a list of such (the last one stays), or a function of the
    handler. Bodies are bytes, or objects for JSON. requests: what came, as (path, headers, body)."""

    def __init__(self, pages, **answers):
        self.answers = {"/ready": (200, {}, {"status": "ready"}), "/v1/models": (200, {}, MODELS),
                        "/metrics": (200, {"Content-Type": "text/plain"}, b"")}
        self.requests = []
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # a connection each, so that closing is being gone

            def log_message(self, *_):
                pass

            def do_GET(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                stub.requests.append((self.path, self.headers, body))
                if self.path in FILES:
                    with urllib.request.urlopen(pages.url + self.path) as file:
                        return self.reply(200, {k: v for k, v in file.headers.items()
                                                if k in ("Content-Type", "Content-Security-Policy")}, file.read())
                answer = stub.answers.get(self.path, (404, {}, {"error": {"message": "nothing is here"}}))
                if isinstance(answer, list):
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                if callable(answer):
                    return answer(self)
                return self.reply(*answer)

            do_POST = do_GET

            def reply(self, status, headers, body):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def stream(self, *pieces):
                """Pieces of an event stream, as they are; None waits for the test. The end is the connection's."""
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for piece in pieces:
                    if piece is None:
                        stub.go.wait(PATIENCE)
                    else:
                        self.wfile.write(piece if isinstance(piece, bytes) else piece.encode())

        self.go = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def chats(self):
        """The bodies of the chat requests, in order."""
        return [body for path, _, body in self.requests if path == "/v1/chat/completions"]

    def close(self):
        self.go.set()
        self.server.shutdown()
        self.server.server_close()


def event(delta=None, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return "data: " + json.dumps({"choices": choices, **more}) + "\n\n"


def usage(prompt, output, cached=0):
    return event(usage={"prompt_tokens": prompt, "completion_tokens": output,
                        "prompt_tokens_details": {"cached_tokens": cached}})


def answer(text, thought=""):
    """A whole stream that says the text."""
    return [event({"role": "assistant", "content": ""}), *([event({"reasoning_content": thought})] if thought else []),
            event({"content": text}), event({}, "stop"), usage(5, 2), "data: [DONE]\n\n"]
