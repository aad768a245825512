"""POST /tokenize and /detokenize, in the forms that vLLM and llama.cpp gave them."""

import json
import urllib.error
import urllib.request

import pytest
from waiting import PATIENCE

BOS = "<｜begin▁of▁sentence｜>"


def post(server, path, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data=data,
                                     headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ok(server, path, body):
    status, answer = post(server, path, body)
    assert status == 200, answer
    return answer


def test_a_prompt_gets_bos_once(pilot):
    plain = ok(pilot, "/tokenize", {"prompt": "Hello there", "add_special_tokens": False})
    with_bos = ok(pilot, "/tokenize", {"prompt": "Hello there"})
    written = ok(pilot, "/tokenize", {"prompt": BOS + "Hello there"})
    assert with_bos["tokens"] == [0] + plain["tokens"] == written["tokens"]
    assert with_bos["count"] == len(with_bos["tokens"])
    assert with_bos["max_model_len"] > 0


@pytest.mark.parametrize("text", ["", "plain", "é 元気 😀", "a\u0000b", "<｜User｜>hi</think>", "  \n\n x"])
def test_the_ids_give_the_text_back(pilot, text):
    ids = ok(pilot, "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
    back = ok(pilot, "/detokenize", {"tokens": ids})
    assert back == {"prompt": text, "content": text}


def test_pieces_are_text_or_bytes(pilot):
    content = "smile 😀"
    answer = ok(pilot, "/tokenize", {"content": content, "with_pieces": True})
    raw = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"])
                   for p in answer["tokens"])
    assert raw.decode() == content
    assert ok(pilot, "/tokenize", {"content": content})["tokens"] == [p["id"] for p in answer["tokens"]]


def test_token_strings_stand_beside_the_ids(pilot):
    answer = ok(pilot, "/tokenize", {"prompt": "Hello there", "return_token_strs": True})
    assert len(answer["token_strs"]) == answer["count"]
    assert "".join(answer["token_strs"]) == BOS + "Hello there"


def test_control_tokens_are_text_when_asked(pilot):
    parsed = ok(pilot, "/tokenize", {"content": "<｜User｜>"})
    literal = ok(pilot, "/tokenize", {"content": "<｜User｜>", "parse_special": False})
    assert parsed["count"] == 1 and literal["count"] > 1


def test_messages_show_the_prompt_that_a_chat_request_makes(pilot, client):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    answer = ok(pilot, "/tokenize", {"messages": messages})
    assert answer["prompt"].startswith(BOS) and messages[0]["content"] in answer["prompt"]
    again = ok(pilot, "/tokenize", {"prompt": answer["prompt"]})
    assert again["tokens"] == answer["tokens"]
    chat = client.chat.completions.create(model="pilot", messages=messages, max_tokens=1)
    assert chat.usage.prompt_tokens == answer["count"]


@pytest.mark.parametrize("path, body, status, param, sentence", [
    ("/tokenize", {}, 400, "prompt", "prompt: missing, wanted a string, or messages"),
    ("/tokenize", {"prompt": 7}, 400, "prompt", "prompt: found an integer, wanted a string"),
    ("/tokenize", [], 400, None, "found an array, wanted a JSON object"),
    ("/tokenize", {"prompt": "x", "model": "gpt-17"}, 404, "model",
     "model: found a model that is not served here, wanted one of GET /v1/models"),
    ("/tokenize", {"messages": []}, 400, "messages", None),
    ("/detokenize", {}, 400, "tokens", "tokens: missing, wanted token ids"),
    ("/detokenize", {"tokens": "x"}, 400, "tokens", "tokens: found a string, wanted an array"),
    ("/detokenize", {"tokens": [1, 4000000]}, 400, "tokens[1]", None),
    ("/detokenize", {"tokens": [1, -1]}, 400, "tokens[1]", None),
    ("/detokenize", {"tokens": [1.5]}, 400, "tokens[0]", None),
    ("/detokenize", b"{\"tokens\": [1", 400, None, None),
])
def test_a_wrong_request_is_refused_with_its_field(pilot, path, body, status, param, sentence):
    got, answer = post(pilot, path, body)
    assert got == status, answer
    assert answer["error"]["param"] == param
    if sentence:
        assert answer["error"]["message"] == sentence
