"""The built-in page in a headless Chromium: what a person does and sees, and what a hostile model cannot do.

RENDERINGS says how many random texts are rendered (400). `make page-test` gets the browser.
"""

import json
import os
import random
import re
import time

import pytest

import browser as chromium
from conftest import ROOT, Server
from keyfile import make_file
from stub import Stub, answer, event

if chromium.missing():
    pytest.skip(chromium.missing(), allow_module_level=True)
RENDERINGS = int(os.environ.get("RENDERINGS", "400"))

THOUGHT = "The tide is asked for. " * 60  # seconds, in which it can be watched
SAID = "The tide comes **twice** a day.\n\n- in the morning\n- in the evening\n" + "And so it goes on. " * 60
HOSTILE = r'''<script>window.caught = 1</script><img src=x onerror="window.caught = 2"><svg onload=alert(3)>

[a](javascript:window.caught=4) [b](JaVaScRiPt:alert(5)) [c](data:text/html,<script>alert(6)</script>)
[d](vbscript:alert(7)) ![e](javascript:alert(8)) <javascript:alert(9)> [f]( javascript:alert(10))
[g](&#106;avascript:alert(11)) [h](java	script:alert(12)) [i](//evil.example/x) [j](/v1/models)

```"><script>window.caught = 13</script>
</code></pre><script>window.caught = 14</script>
```

| a</td><script>window.caught = 15</script> | b |
| --- | --- |
| <iframe src="javascript:alert(16)"></iframe> | <style>*{display:none}</style> |

# <base href="https://evil.example/"><form action="https://evil.example/"><input name=key></form>
1. <a href="javascript:alert(17)" onclick="alert(18)">press</a>
> <meta http-equiv="refresh" content="0;url=https://evil.example/">
`<script>window.caught = 19</script>` **<b onclick=alert(20)>** {{constructor.constructor('alert(21)')()}}
<!-- --!> <![CDATA[ x ]]> &lt;script&gt;window.caught = 22&lt;/script&gt; https://good.example/a"onmouseover="alert(23)'''
ALLOWED = set("P UL OL LI H3 H4 H5 H6 PRE CODE EM STRONG S A BLOCKQUOTE HR DIV TABLE THEAD TBODY TR TH TD FIGURE "
              "FIGCAPTION SPAN BUTTON".split())


def token_ids(server, text):
    return server.post("/tokenize", {"content": text, "parse_special": True})["tokens"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """The scripted engine, slow enough to be watched: what it says depends on a word of the prompt."""
    asks = Server(["--backend", "scripted"])
    says = {" tide": THOUGHT + "</think>" + SAID, " hostile": "<b>Hm</b></think>" + HOSTILE,
            " endless": "Well</think>" + "on and on and on " * 2000}
    script = [{"prompt_has": token_ids(asks, word), "tokens": token_ids(asks, text)} for word, text in says.items()]
    assert asks.stop() == 0
    server = Server(["--backend", "scripted"], script=script + [{"step_us": 4000}],
                    directory=tmp_path_factory.mktemp("script"))
    yield server
    assert server.stop() == 0, "".join(server.log[-40:])


@pytest.fixture(scope="module")
def browsers():
    held = []
    yield held
    for browser in held:
        browser.close()


@pytest.fixture
def chrome(browsers):
    """One for all tests; a new one after a test in which it died, so that the others are judged too."""
    if not browsers or not browsers[-1].alive():
        browsers.append(chromium.Browser())
    return browsers[-1]


@pytest.fixture
def stub(scripted):
    made = Stub(scripted)
    yield made
    made.close()


@pytest.fixture
def page(chrome, stub, serve):  # which end after it
    """A function that opens the page of a server. In the end the console holds nothing that went wrong: no
    error in a script, and nothing that the policy had to stop."""
    allowed = []

    def opened(server, *failing):
        allowed.extend(failing)
        chrome.resize(1100, 800)
        chrome.open("about:blank")
        chrome.log()
        chrome.open(server.url)
        chrome.wait("return document.querySelector('#model').options.length > 0 || arguments[0]", bool(failing))
        return chrome

    yield opened
    chrome.open("about:blank")
    wrong = [text for level, text in chrome.log() if level in ("SEVERE", "WARNING")]
    assert not [text for text in wrong if not any(word in text for word in allowed)]


def streaming(stub, *streams):
    """The chat's answers, one stream after the other; the last one stays."""
    stub.answers["/v1/chat/completions"] = [lambda handler, pieces=pieces: handler.stream(*pieces) for pieces in streams]


def asked(page, text):
    page.type(text + "{Enter}", "#message")


def answered(page, turns=1):
    page.wait("return document.querySelectorAll('.turn.answer.done').length === arguments[0] && !document.querySelector('.stop')", turns)


# ---- a chat


def test_a_message_is_answered_with_its_thinking_folded_and_its_text_streamed(page, engine):
    before = engine.metrics()
    page = page(engine)
    asked(page, "When does the tide come?")
    page.wait_text(".thought > summary", "Thinking")
    assert page.js("return document.querySelector('.thought').open") and page.text(".prose") == ""
    page.wait_text(".prose", "The tide comes")
    seen = page.text(".prose")
    summary = page.text(".thought > summary")
    assert re.fullmatch(r"Thought for \d+(\.\d)? m?s", summary)
    assert not page.js("return document.querySelector('.thought').open")
    assert page.js("return document.querySelector('.answer').ariaBusy") == "true"
    answered(page)
    assert len(page.text(".prose")) > len(seen) + 40  # it grew while it was watched
    assert page.text(".prose strong") == "twice" and page.count(".prose ul > li") == 2
    page.click(".thought > summary")
    assert page.text(".thought-text").strip() == THOUGHT.strip()
    figures = page.text(".figures")
    assert re.search(r"^[\d,]+ tokens · [\d.]+ tokens/s · first after [\d.]+ m?s · prompt \d+$", figures), figures
    assert page.js("return document.querySelector('.answer').ariaBusy") == "false"
    assert page.js("return document.querySelector('#log').ariaLive") == "polite"
    after = engine.wait_idle()
    ended = {name: after[name] - before[name] for name in after if name.startswith("requests_total{") and after[name] != before[name]}
    assert ended == {'requests_total{outcome="stop"}': 1}


@pytest.mark.parametrize("how", ["key", "button", "leaving"])
def test_an_answer_that_is_stopped_frees_the_engine(page, engine, how):
    gone = engine.metrics()['requests_total{outcome="client_gone"}']
    page = page(engine)
    asked(page, "Tell me an endless story")
    page.wait_text(".prose", "on and on")
    assert engine.metrics()["requests_running"] == 1
    if how == "leaving":
        page.open("about:blank")
    else:
        page.type("{Escape}") if how == "key" else page.click("#send")
        answered(page)
        assert "on and on" in page.text(".prose") and page.text(".turn > .note") == "Stopped."
        assert page.text("#send") == "Send"
    engine.wait_idle()
    assert engine.metrics()['requests_total{outcome="client_gone"}'] == gone + 1


def test_what_is_sent_is_the_conversation_with_its_settings(page, stub):
    streaming(stub, answer("First.", "Hm."), answer("Second."))
    page = page(stub)
    page.click("#open-settings")
    page.type("Be brief.", "#system")
    page.type("0.5", "#temperature")
    page.type("77", "#max_tokens")
    page.type("{Escape}")
    asked(page, "one{Shift+Enter}two")
    answered(page)
    page.click(".modes label:nth-of-type(1)")
    asked(page, "three")
    answered(page, 2)
    first, second = stub.chats()
    assert first == {"model": "pilot", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5,
                     "max_tokens": 77, "thinking": {"type": "enabled"}, "reasoning_effort": "high", "messages": [
                         {"role": "system", "content": "Be brief."}, {"role": "user", "content": "one\ntwo"}]}
    assert second["messages"][2:] == [{"role": "assistant", "content": "First.", "reasoning_content": "Hm."},
                                      {"role": "user", "content": "three"}]
    assert second["thinking"] == {"type": "disabled"} and "reasoning_effort" not in second


def test_an_answer_is_made_again_and_a_message_said_differently(page, stub):
    streaming(stub, answer("A"), answer("B"), answer("C"), answer("D"))
    page = page(stub)
    asked(page, "hello")
    answered(page)
    page.click(".again")
    page.wait_text(".prose", "B")
    answered(page)
    asked(page, "and now")
    answered(page, 2)
    assert page.js("return [...document.querySelectorAll('.edit')].filter((e) => e.checkVisibility()).length") == 1
    page.click(".turn:nth-of-type(3) .edit")
    assert page.js("return document.activeElement.value") == "and now"
    page.type("{Escape}")
    assert page.count(".editor") == 0 and page.text(".user .said") == "hello\nand now"
    page.click(".turn:nth-of-type(3) .edit")
    page.type(" then{Enter}")
    page.wait_text(".prose", "D")
    answered(page, 2)
    assert page.text(".prose") == "B\nD" and page.text(".user .said") == "hello\nand now then"
    said = [[m["content"] for m in body["messages"]] for body in stub.chats()]
    assert said == [["hello"], ["hello"], ["hello", "B", "and now"], ["hello", "B", "and now then"]]
    page.click("#fresh")
    assert page.count(".turn") == 0 and page.text("#welcome h2")


def test_a_call_is_shown_as_data_and_answered_by_hand(page, pilot):
    page = page(pilot)
    page.click("#open-settings")
    page.click("#example-tool")
    assert page.text("#tools-note").startswith("1 tool")
    page.click("#close-settings")
    page.js("document.querySelector('#temperature').value = 0")
    asked(page, "What is the weather in Oslo?")
    page.wait_text(".call header b", "get_weather")
    answered(page)
    assert json.loads(page.text(".call > pre")) == {"city": "Oslo"}
    page.type("4 degrees and rain{Enter}", ".call textarea")
    answered(page, 2)
    assert page.text(".call .result pre") == "4 degrees and rain"
    assert page.text(".answer:last-child .prose") and page.count(".turn") == 3


def test_half_a_call_is_not_sent_back_and_an_open_one_is_closed(page, stub):
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    piece = event({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": <b>1'}}]})
    whole = [event({"tool_calls": [call]}), event({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
             event({}, "tool_calls"), "data: [DONE]\n\n"]
    streaming(stub, [event({"tool_calls": [call]}), piece, None], whole, answer("Fine."))
    page = page(stub)
    asked(page, "one")
    page.wait_text(".call > pre", '{"a": <b>1')
    page.type("{Escape}")
    answered(page)
    assert page.count(".call") == 0
    asked(page, "two")
    answered(page, 2)
    assert page.count(".call textarea") == 1
    asked(page, "three")
    answered(page, 3)
    assert page.count(".call textarea") == 0
    assert [m["role"] for m in stub.chats()[1]["messages"]] == ["user", "user"]
    assert stub.chats()[2]["messages"][2:4] == [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "No result was given."}]


def test_until_the_first_token_it_is_told_what_is_waited_for(page, stub):
    streaming(stub, [": keep-alive\n\n", ": x-fathom-cache: hit=1280 tier=host miss=unknown@1280\n\n", None, *answer("At last.")[1:]])
    stub.answers["/v1/messages/count_tokens"] = (200, {}, {"input_tokens": 2345})
    page = page(stub)
    asked(page, "a long one")
    page.wait_text(".progress", "Reading about 2,345 tokens, 1,280 of them known · ")
    stub.go.set()
    page.wait_text(".prose", "At last.")
    assert not page.js("return document.querySelector('.progress').checkVisibility()")


# ---- what goes wrong


def refusal(message, code=None):
    return {"error": {"message": message, "type": "t", "param": None, "code": code}}


ERRORS = {
    "rate": (429, {"Retry-After": "7"}, refusal("at most 3 requests a minute", "rate_limit_exceeded"),
             r"This key has reached a limit. At most 3 requests a minute. Trying again is worth it in [67] s\.", "Try again"),
    "key": (401, {}, refusal("the API key is not valid", "invalid_api_key"), r"This server wants an API key", "Enter a key"),
    "budget": (402, {}, refusal("the budget is spent", "insufficient_quota"), r"The budget of this key is used up", None),
    "long": (400, {}, refusal("5000 tokens", "context_length_exceeded"), r"longer than the model can read", None),
    "field": (400, {}, refusal("temperature: found 3, wanted 0 to 2"), r"^Temperature: found 3, wanted 0 to 2\.$", None),
    "full": (503, {"Retry-After": "2"}, refusal("the queue is full", "overloaded"), r"more to do than it can take", "Try again"),
    "no sense": (500, {}, b"<html>oops <script>alert(1)</script>", r"The server has made a mistake\.", "Try again"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_refusal_is_told_in_words(page, stub, name):
    status, headers, body, words, button = ERRORS[name]
    stub.answers["/v1/chat/completions"] = [(status, headers, body), lambda handler: handler.stream(*answer("Now it works."))]
    page = page(stub, "status of")
    asked(page, "hello")
    answered(page)
    assert re.search(words, page.text(".turn > .note span")), page.text(".turn > .note")
    assert page.text(".turn > .note button") == (button or "")
    if button == "Try again":
        page.click(".turn > .note button")
        page.wait_text(".prose", "Now it works.")
        assert page.count(".turn") == 2


@pytest.mark.parametrize("pieces, words", [
    ([event({"content": "Half"}), "data: " + json.dumps(refusal("the engine has failed", "engine_failed")) + "\n\n"], "The model has failed"),
    ([event({"content": "Half"})], "ended before the answer did"),
    ([event({"content": "Half"}), event({}, "insufficient_system_resource"), "data: [DONE]\n\n"], "had to cut this answer short"),
    ([event({"content": "Half"}), event({}, "length"), "data: [DONE]\n\n"], "reached its limit of tokens"),
    ([event({"role": "assistant"}), event({}, "stop"), "data: [DONE]\n\n"], "ended without an answer"),
])
def test_what_came_is_kept_when_the_rest_does_not(page, stub, pieces, words):
    streaming(stub, pieces)
    page = page(stub)
    asked(page, "hello")
    answered(page)
    assert words in page.text(".turn > .note")
    assert page.text(".prose") == ("Half" if "Half" in pieces[0] else "")


def test_the_loading_of_the_model_is_shown_until_it_is_there(page, stub):
    loading = refusal("the model is being loaded: weights, 43 %", "loading")
    stub.answers["/ready"] = (503, {"Retry-After": "1"}, loading)
    stub.answers["/v1/chat/completions"] = [(503, {"Retry-After": "1"}, loading), lambda handler: handler.stream(*answer("Hello."))]
    page = page(stub, "503")
    page.wait_text("#health-text", "loading 43 %")
    asked(page, "hello")
    page.wait_text(".turn > .note", "The model is still being loaded: weights, 43 %.")
    stub.answers["/ready"] = (200, {}, {"status": "ready"})
    page.wait_text(".turn > .note", "The model is ready now.")
    assert page.text("#health-text") == "ready"
    page.click(".turn > .note button")
    page.wait_text(".prose", "Hello.")


def test_a_server_that_is_gone_is_told_and_found_again(page, scripted):
    stub = Stub(scripted)
    page = page(stub, "ERR_")
    stub.close()
    asked(page, "hello")
    page.wait_text(".turn > .note", "The server cannot be reached.")
    page.wait_text("#health-text", "no connection")


# ---- keys


def test_the_key_is_kept_for_the_tab_and_sent_to_the_api_alone(page, serve, tmp_path):
    key = make_file(tmp_path / "keys.json", "acme", scopes=["api"])[0]
    server = serve("--keys", str(tmp_path / "keys.json"))
    page = page(server, "401", "403")
    page.wait_text("#about-model", "asks for an API key")
    page.click("#open-settings")
    page.type(key + "{Tab}", "#key")
    page.type("{Escape}")
    page.wait_text("#about-model", "reads up to")
    asked(page, "hello")
    answered(page)
    assert page.text(".prose") or page.text(".thought > summary")
    page.click("#to-metrics")
    page.wait_text("#metrics-note", "scope metrics")
    kept = page.js("return [Object.values(sessionStorage), localStorage.length, document.cookie]")
    assert kept == [[key], 0, ""]


# ---- metrics


def test_the_metrics_move_with_what_is_computed_and_rest_when_nobody_looks(page, engine):
    page = page(engine)
    asked(page, "When does the tide come?")
    page.click("#to-metrics")
    assert page.count(".chart") == 6
    page.js("window.polls = () => performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/metrics')).length")
    page.wait("return parseFloat(document.querySelector('.k0 b').textContent) > 0")  # tokens a second
    page.wait("return document.querySelector('.l0').getAttribute('d').includes('L')")
    page.wait("return /\\d ms/.test(document.querySelectorAll('.chart')[5].querySelector('b').textContent)")
    assert page.js("return document.querySelectorAll('.chart')[0].querySelector('svg').ariaLabel") == "Tokens per second"
    page.js("""const drawing = document.querySelector('.plot svg'), box = drawing.getBoundingClientRect();
        drawing.dispatchEvent(new PointerEvent('pointermove', { clientX: box.left + box.width / 2 }));""")
    assert set(page.text(".axis span:nth-child(2)").split("\n")) == {"150 s ago"} and page.text(".k0 b").startswith("–")
    page.js("document.querySelector('.plot svg').dispatchEvent(new PointerEvent('pointerleave'))")
    assert page.text(".axis span:nth-child(2)").strip() == ""
    page.click("#to-chat")
    polls = page.js("return window.polls()")
    time.sleep(2.5)
    assert page.js("return window.polls()") == polls
    answered(page)


def test_numbers_of_tenants_and_of_all_are_not_added(page, stub):
    lines = ['fathom_requests_running{model="m"} 3', 'fathom_requests_running{model="m",tenant="a"} 2',
             'fathom_requests_running{model="m",tenant="b"} 1', 'fathom_requests_waiting{model="m",tenant="a"} 4',
             'fathom_requests_waiting{model="m",tenant="b"} 1', "# HELP x y", "garbage", "fathom_kv_cache_usage_ratio 0.25"]
    stub.answers["/metrics"] = (200, {"Content-Type": "text/plain"}, "\n".join(lines).encode())
    page = page(stub)
    page.click("#to-metrics")
    page.wait_text(".chart:nth-child(2) .k0 b", "3")
    assert page.text(".chart:nth-child(2) .k1 b") == "5" and page.text(".chart:nth-child(3) .k0 b") == "25 %"


# ---- hostile answers


def elements_in(page, css):
    return set(page.js("return [...document.querySelectorAll(arguments[0] + ' *')].map((e) => e.tagName.toUpperCase())", css))


def test_a_hostile_answer_is_text(page, engine):
    page = page(engine)
    before = page.count("script, style, link, base, meta")
    asked(page, "Say something hostile")
    answered(page)
    page.click(".thought > summary")
    assert page.js("return window.caught") is None
    assert elements_in(page, ".prose") <= ALLOWED and elements_in(page, ".thought-text") == set()
    assert page.count("script, style, link, base, meta") == before
    links = page.js("return [...document.querySelectorAll('.prose a')].map((a) => [a.href, a.textContent, a.rel])")
    assert links and all(href == text and "noopener" in rel for href, text, rel in links)  # addresses that were spelt out
    for text in ("<script>window.caught = 1</script>", "[a](javascript:window.caught=4)", "<script>window.caught = 14</script>",
                 "<iframe", "&lt;script&gt;", "onmouseover=", "{{constructor"):
        assert text in page.text(".prose"), text
    assert page.text(".thought-text") == "<b>Hm</b>"
    attributes = page.js("return [...document.querySelectorAll('.prose *')].flatMap((e) => e.getAttributeNames())")
    assert set(attributes) <= {"class", "href", "rel", "target", "title", "start", "tabindex", "type"}


def test_hostile_calls_names_and_errors_are_text_too(page, stub):
    bad = "<img src=x onerror='window.caught = 1'>"
    call = {"index": 0, "id": bad, "type": "function", "function": {"name": bad, "arguments": json.dumps({bad: bad})}}
    streaming(stub, [event({"tool_calls": [call]}), event({}, "tool_calls"), "data: [DONE]\n\n"],
              ["data: " + json.dumps(refusal(bad)) + "\n\n"])
    stub.answers["/v1/models"] = (200, {}, {"data": [{"id": bad, "context_length": 5}]})
    page = page(stub)
    asked(page, bad)
    answered(page)
    page.type(bad + "{Enter}", ".call textarea")
    answered(page, 2)
    assert bad in page.text(".note.bad") and page.text(".user .said") == bad and page.text(".call header b") == bad
    assert page.count("img") == 2 and page.js("return window.caught") is None  # the page's own icons


def test_the_policy_stops_what_the_page_would_let_through(page, scripted):
    page = page(scripted, "Trusted", "TrustedHTML", "Content Security Policy", "assignment")
    tries = """
        const tried = {};
        const attempt = (name, action) => { try { action(); tried[name] = 'done'; } catch (error) { tried[name] = error.name; } };
        attempt('html', () => { document.body.innerHTML = '<b>x</b>'; });
        const script = document.createElement('script');
        attempt('text', () => { script.text = 'window.caught = 1'; });
        const style = document.createElement('style');
        style.textContent = 'body { display: none }';
        document.body.append(style);
        const frame = document.createElement('iframe');
        frame.src = 'https://evil.example/';
        document.body.append(frame);
        tried.shown = getComputedStyle(document.body).display;
        return tried;"""
    tried = page.js(tries)
    assert tried == {"html": "TypeError", "text": "TypeError", "shown": "grid"}


# ---- the renderer by itself: its source in an empty page


@pytest.fixture(scope="module")
def source():
    return "\n".join((ROOT / "server" / "page" / name).read_text() for name in ("dom.js", "markdown.js", "api.js"))


def rendered(chrome, source, *texts):
    chrome.open("about:blank")
    return chrome.js(source + """
        return arguments[0].map((text) => {
            const box = document.createElement('div');
            showMarkdown(box, text);
            return box.innerHTML;
        });""", list(texts))


MARKDOWN = [
    ("plain", "<p>plain</p>"),
    ("a\nb\n\nc", "<p>a\nb</p><p>c</p>"),
    ("**b** *i* __B__ _I_ ~~s~~ ***bi***", "<p><strong>b</strong> <em>i</em> <strong>B</strong> <em>I</em> <s>s</s> <strong><em>bi</em></strong></p>"),
    ("snake_case_name 2 * 3 * 4 **open", "<p>snake_case_name 2 * 3 * 4 **open</p>"),
    ("*a **b** c*", "<p><em>a <strong>b</strong> c</em></p>"),
    (r"\*no\* \\ \a", r"<p>*no* \ \a</p>"),
    ("`a*b*` ``x ` y`` `open", "<p><code>a*b*</code> <code>x ` y</code> `open</p>"),
    ("# One\n### Three\n####### Seven", "<h3>One</h3><h5>Three</h5><p>####### Seven</p>"),
    ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
    ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    ("- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
    ("1. a\n   ```\n   code\n   ```\n2. b", '<ol><li>a<figure class="code"><figcaption><span>text</span><button type="button" class="quiet">Copy</button></figcaption><pre tabindex="0"><code>code</code></pre></figure></li><li>b</li></ol>'),
    ("> a\n> > b\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"),
    ("a\n\n---\n\n* * *", "<p>a</p><hr><hr>"),
    ("| a | b |\n|:-:|--:|\n| 1 | 2 \\| 3 |\n| **4** |", '<div class="wide" tabindex="0"><table><thead><tr><th class="middle">a</th><th class="right">b</th></tr></thead><tbody><tr><td class="middle">1</td><td class="right">2 | 3</td></tr><tr><td class="middle"><strong>4</strong></td><td class="right"></td></tr></tbody></table></div>'),
    ("a | b\nno table", "<p>a | b\nno table</p>"),
    ("[x](https://a.example/b_(c))", '<p><a href="https://a.example/b_(c)" title="https://a.example/b_(c)" target="_blank" rel="noopener noreferrer nofollow">x</a></p>'),
    ("![x](http://a.example/)", '<p><a href="http://a.example/" title="http://a.example/" target="_blank" rel="noopener noreferrer nofollow">x</a></p>'),
    ("See http://a.example/x_y_z.", '<p>See <a href="http://a.example/x_y_z" title="http://a.example/x_y_z" target="_blank" rel="noopener noreferrer nofollow">http://a.example/x_y_z</a>.</p>'),
    ("[x](ftp://a) [y](javascript:z)", "<p>[x](ftp://a) [y](javascript:z)</p>"),
    ("[https://bank.example/](https://evil.example/)", '<p><a href="https://evil.example/" title="https://evil.example/" target="_blank" rel="noopener noreferrer nofollow">https://bank.example/</a></p>'),
    ("~~~\n<b>\n~~~~", '<figure class="code"><figcaption><span>text</span><button type="button" class="quiet">Copy</button></figcaption><pre tabindex="0"><code>&lt;b&gt;</code></pre></figure>'),
]


def test_markdown_is_rendered_as_the_table_says(chrome, source):
    for (text, wanted), got in zip(MARKDOWN, rendered(chrome, source, *[text for text, _ in MARKDOWN])):
        assert got == wanted, text


PIECES = ["*", "**", "_", "__", "~~", "`", "``", "```", "\n", "\n\n", "\n- ", "\n  - ", "\n1. ", "\n> ", "\n# ", "|", "\n|-|-|\n", "[", "](",
          ")", "https://a.example/", "javascript:", "<b>", "<script>", "&amp;", "\\", " ", "\t", "  ", "word", "日本", "🧪", '"', "'", "\u202e", "\n~~~\n", "!"]


def test_whatever_is_written_only_known_elements_come_of_it_and_growing_ends_the_same(chrome, source):
    dice = random.Random(20261122)
    texts = ["".join(dice.choice(PIECES) for _ in range(dice.randint(1, 60))) for _ in range(RENDERINGS)]
    chrome.open("about:blank")
    results = chrome.js(source + """
        return arguments[0].map((text) => {
            const whole = document.createElement('div'), grown = document.createElement('div');
            showMarkdown(whole, text);
            for (let at = 0; at <= text.length; at += 3) showMarkdown(grown, text.slice(0, at));
            showMarkdown(grown, text);
            const nodes = [...whole.querySelectorAll('*')];
            return { same: whole.innerHTML === grown.innerHTML, tags: nodes.map((e) => e.tagName),
                     links: nodes.map((e) => e.href).filter(Boolean), words: whole.textContent.split('word').length };
        });""", texts)
    for text, got in zip(texts, results):
        assert got["same"], repr(text)
        assert set(got["tags"]) <= ALLOWED, repr(text)
        assert all(link.startswith("https://a.example/") for link in got["links"]), repr(text)


def test_rendering_takes_time_in_proportion_to_the_text(chrome, source):
    """What would be quadratic takes minutes at this size."""
    size = 200_000
    for piece in ["*a ", "**a ", "_", "`", "` ", "[", "[a](", "[a](https://a.example/", "> ", "- ", "  - a\n", "|", "| - ", "\\", "~~", "#", "```\n",
                  "*a_b ", "http://", " ", "<", "![", "* * ", "1. ", "\n> > > > > ", "***", "a|b\n-|-\n"]:
        text = (piece * (size // len(piece) + 1))[:size]
        chrome.open("about:blank")
        took = chrome.js(source + """
            const box = document.createElement('div'), from = performance.now();
            showMarkdown(box, arguments[0]);
            return performance.now() - from;""", text)
        assert took < 3000, (piece, took)


def test_events_are_read_however_they_are_cut(chrome, source):
    stream = ': keep-alive\r\n\r\ndata: {"a": "日本 🧪"}\n\ndata: one\ndata:two\r\n\r\n: note\n\nevent: x\nid: 1\ndata:  three\r\rdata: [DONE]\n\ndata: not ended'
    wanted = [{"comment": "keep-alive"}, {"data": '{"a": "日本 🧪"}'}, {"data": "one\ntwo"}, {"comment": "note"}, {"data": " three"}, {"data": "[DONE]"}]
    chrome.open("about:blank")
    for size in (1, 2, 3, 5, 7, 64, 4096):
        got = chrome.js(source + """
            const bytes = new TextEncoder().encode(arguments[0]), size = arguments[1], got = [];
            const body = new ReadableStream({ start(to) {
                for (let at = 0; at < bytes.length; at += size) to.enqueue(bytes.slice(at, at + size));
                to.close();
            } });
            return (async () => { for await (const event of events(body)) got.push(event); return got; })();""", stream, size)
        assert got == wanted, size


# ---- hands and eyes


def test_everything_is_reached_by_keyboard_in_the_order_in_which_it_is_seen(page, stub):
    streaming(stub, answer("A `code`\n\n```\nx\n```", "Hm."))
    page = page(stub)
    assert page.js("return document.activeElement.id") == "message"
    asked(page, "hello")
    answered(page)
    assert page.js("return document.activeElement.id") == "message" and page.js("return document.querySelector('#message').value") == ""
    page.js("document.querySelector('#to-chat').focus()")
    seen = []
    while len(seen) < 40 and (not seen or seen[-1] != "send"):
        seen.append(page.js("const e = document.activeElement; return e.id || e.name || e.textContent"))
        page.type("{Tab}")
    assert re.fullmatch(r"Thought for \d+ ms", seen.pop(6))
    assert seen == ["to-chat", "to-metrics", "fresh", "open-settings", "Edit", "Copy", "Copy", "x", "Copy", "Regenerate",
                    "message", "model", "mode", "send"]
    page.js("document.querySelector('#open-settings').focus()")
    page.type("{Enter}")
    assert page.js("return document.querySelector('#settings').open")
    page.type("{Escape}")
    assert page.js("return !document.querySelector('#settings').open && document.activeElement.id") == "open-settings"
    labels = page.js("return [...document.querySelectorAll('input, select, textarea')].filter((e) => !e.labels?.length && !e.ariaLabel).map((e) => e.id)")
    assert labels == []


def test_it_follows_the_end_only_while_the_end_is_in_view(page, engine):
    page = page(engine)
    page.resize(700, 420)
    asked(page, "Tell me an endless story")
    page.wait("const b = document.querySelector('#scroller'); return b.scrollHeight > b.clientHeight + 200")
    at_end = "const b = document.querySelector('#scroller'); return b.scrollHeight - b.scrollTop - b.clientHeight < 60"
    assert page.js(at_end)
    page.js("document.querySelector('#scroller').scrollTop = 5")
    page.wait("return !document.querySelector('#latest').hidden")
    height = page.js("return document.querySelector('#scroller').scrollHeight")
    page.wait("return document.querySelector('#scroller').scrollHeight > arguments[0]", height)
    assert page.js("return document.querySelector('#scroller').scrollTop") == 5
    page.click("#latest")
    assert page.js(at_end)
    page.resize(500, 360)  # as when a telephone shows its keyboard
    page.wait(at_end)
    page.type("{Escape}")
    answered(page)
    engine.wait_idle()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen_and_can_be_read_in_both_schemes(page, stub, scheme):
    wide = "w" * 200 + "\n\n```\n" + "x" * 300 + "\n```\n\n|" + "column|" * 12 + "\n|" + "-|" * 12 + "\n|" + "cell|" * 12
    streaming(stub, answer(wide, "t" * 200))
    page = page(stub)
    page.resize(360, 640)
    page.scheme(scheme)
    asked(page, "u" * 200)
    answered(page)
    page.click(".thought > summary")
    for view in ("#to-chat", "#to-metrics"):
        page.click(view)
        assert page.js("return document.documentElement.scrollWidth") == 360
        assert page.js("return [...document.querySelectorAll('.scroller, .metrics')].every((e) => e.scrollWidth <= 360)")
    contrast = page.js("""
        const light = (css) => {
            const [r, g, b] = css.match(/[\\d.]+/g).map((v) => v / 255).map((v) => (v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4));
            return .2126 * r + .7152 * g + .0722 * b;
        };
        const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(c)) return c; } };
        return [...document.querySelectorAll('#log *, .bar *, .composer *')].filter((e) => e.checkVisibility() && e.innerText && !e.disabled).map((e) => {
            const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
            return [(a + .05) / (b + .05), e.className || e.tagName];
        }).sort((x, y) => x[0] - y[0])[0];""")
    page.scheme("light")
    assert contrast[0] >= 4.5, contrast
