"""The built-in page as it is served: small, the same for everybody, and under a policy. What it does in a
browser is test_page_in_browser.py's."""

import re

import pytest

from keyfile import make_file
from raw import Raw

FILES = {"/": "text/html; charset=utf-8", "/page.js": "text/javascript; charset=utf-8",
         "/page.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml"}
POLICY = {"default-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "object-src 'none'",
          "require-trusted-types-for 'script'", "trusted-types 'none'"}
LARGEST = 60_000  # bytes, all files together


def ask(server, path, *headers, method="GET"):
    with Raw(server) as raw:
        raw.say("\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *headers]) + "\r\n\r\n")
        return raw.answer(head_only=method == "HEAD" or any(h.startswith("If-None-Match") for h in headers))


@pytest.mark.parametrize("path", FILES)
def test_each_file_comes_with_its_type_and_the_policy(scripted, path):
    status, headers, body = ask(scripted, path)
    assert (status, headers["content-type"]) == (200, FILES[path]) and len(body) > 100
    assert set(headers["content-security-policy"].split("; ")) == POLICY
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache" and re.fullmatch(r'"[0-9a-f]{16}"', headers["etag"])
    head = ask(scripted, path, method="HEAD")
    for name in ("content-type", "content-length", "etag", "content-security-policy"):
        assert head[1][name] == headers[name]
    assert head[0] == 200 and int(headers["content-length"]) == len(body)


@pytest.mark.parametrize("path", FILES)
def test_what_the_browser_has_is_not_sent_again(scripted, path):
    tag = ask(scripted, path)[1]["etag"]
    known = [tag, f"W/{tag}", f'"other", {tag}', f'{tag} , "other"', "*"]
    for tags in known:
        status, headers, _ = ask(scripted, path, f"If-None-Match: {tags}")
        assert (status, headers["etag"]) == (304, tag), tags
        assert "content-security-policy" in headers
    for tags in ('"other"', tag.strip('"'), tag[:-2] + '"', '""', ","):
        assert ask(scripted, path, f"If-None-Match: {tags}")[0] == 200, tags


def test_nothing_follows_an_answer_without_a_body(scripted):
    tag = ask(scripted, "/page.js")[1]["etag"]
    with Raw(scripted) as raw:
        for _ in range(3):
            raw.say(f"GET /page.js HTTP/1.1\r\nHost: test\r\nIf-None-Match: {tag}\r\n\r\n")
            assert raw.answer(head_only=True)[0] == 304
        raw.say("GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        assert raw.answer()[2] == b'{"status":"ok"}'


def test_the_page_is_small_and_stands_alone(scripted):
    files = {path: ask(scripted, path)[2].decode() for path in FILES}
    assert sum(len(text.encode()) for text in files.values()) < LARGEST
    html = files["/"]
    assert html.startswith("<!doctype html>")
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.S) == [""]  # from the file alone
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|localStorage|\.cookie", files["/page.js"])
    for path, text in files.items():  # nothing is fetched from elsewhere
        addresses = set(re.findall(r"\bhttps?://[\w.-]+", text))
        assert addresses <= {"http://www.w3.org"}, (path, addresses)  # a name in XML, not a place
    assert set(re.findall(r'(?:src|href)="([^"#]+)"', html)) == {"page.js", "page.css", "icon.svg"}


def test_the_page_is_under_its_fixed_paths_alone(scripted):
    for path in ("/v1/", "/v1/page.js", "/beta/", "/anthropic/page.css", "/index.html", "/page", "/page.js/x", "/../page.js"):
        assert ask(scripted, path)[0] == 404, path
    status, headers, _ = ask(scripted, "/", method="POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_the_page_needs_no_key_and_what_it_asks_for_does(serve, tmp_path):
    make_file(tmp_path / "keys.json", "acme")
    server = serve("--keys", str(tmp_path / "keys.json"))
    assert all(ask(server, path)[0] == 200 for path in FILES)
    assert [ask(server, path)[0] for path in ("/v1/models", "/metrics")] == [401, 401]


@pytest.mark.parametrize("arguments, status", [
    ([], 200), (["--ui", "off"], 404), (["--ui", "on"], 200),
    (["--listen", "0.0.0.0:0", "--insecure"], 404), (["--listen", "0.0.0.0:0", "--insecure", "--ui", "on"], 200)])
def test_the_page_is_on_where_only_this_machine_can_connect_unless_told(serve, arguments, status):
    server = serve(*arguments)
    for path in FILES:
        answer = ask(server, path)
        assert answer[0] == status
        assert status == 200 or b"--ui on" in answer[2] and "content-security-policy" not in answer[1]
