"""POST /v1/completions: raw prompts, echo, log-probabilities, several prompts, holes."""

import openai
import pytest
from waiting import PATIENCE

BOS = "<｜begin▁of▁sentence｜>"


def create(client, prompt, **more):
    more = {"model": "pilot", "max_tokens": 8, "temperature": 0, "seed": 1, **more}
    return client.completions.create(prompt=prompt, **more)


def ids_of(server, text):
    import json
    import urllib.request
    request = urllib.request.Request(server.url + "/tokenize", json.dumps({"prompt": text}).encode(),
                                     {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["tokens"]


def joined(stream):
    """What a stream says, choice by choice, and its usage."""
    choices, usage = {}, None
    for chunk in stream:
        usage = chunk.usage or usage
        for part in chunk.choices:
            choice = choices.setdefault(part.index, {"text": "", "finish_reason": None, "tokens": [],
                                                     "token_logprobs": [], "text_offset": []})
            assert choice["finish_reason"] is None, "nothing follows the finish"
            choice["text"] += part.text
            choice["finish_reason"] = part.finish_reason
            if part.logprobs:
                for name in ("tokens", "token_logprobs", "text_offset"):
                    choice[name] += getattr(part.logprobs, name)
    return choices, usage


def test_a_text_and_its_ids_are_the_same_prompt(pilot, client):
    text = "The capital of France is"
    by_text = create(client, text)
    by_ids = create(client, ids_of(pilot, text))
    with_bos = create(client, BOS + text)
    assert by_text.object == "text_completion" and by_text.id.startswith("cmpl-")
    assert by_text.choices[0].text == by_ids.choices[0].text == with_bos.choices[0].text
    assert by_text.usage.prompt_tokens == len(ids_of(pilot, text)) == with_bos.usage.prompt_tokens
    bare = create(client, text, extra_body={"add_special_tokens": False})
    assert bare.usage.prompt_tokens == by_text.usage.prompt_tokens - 1


def test_sixteen_tokens_are_the_default(client):
    answer = client.completions.create(model="pilot", prompt="Once", temperature=0,
                                       extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_several_prompts_are_several_choices_in_order(pilot, client):
    prompts = ["The capital of France is", ids_of(pilot, "One, two,"), "Hello"]
    together = create(client, prompts)
    assert [choice.index for choice in together.choices] == [0, 1, 2]
    alone = [create(client, prompt) for prompt in prompts]
    assert [c.text for c in together.choices] == [a.choices[0].text for a in alone]
    assert together.usage.prompt_tokens == sum(a.usage.prompt_tokens for a in alone)


def test_n_choices_of_each_prompt_differ_and_the_first_is_the_seeds_own(serve):
    with_n = serve("--max-n", "4").client()
    hot = {"temperature": 1.5, "seed": 7, "max_tokens": 12}
    answer = create(with_n, ["A", "B"], n=3, best_of=3, **hot)
    assert [c.index for c in answer.choices] == list(range(6))
    assert answer.choices[0].text == create(with_n, "A", **hot).choices[0].text
    assert answer.choices[3].text == create(with_n, "B", **hot).choices[0].text
    assert len({c.text for c in answer.choices[:3]}) > 1


@pytest.mark.parametrize("more", [
    {}, {"echo": True}, {"logprobs": 3}, {"logprobs": 0, "echo": True}, {"stop": [" "]},
    {"temperature": 1.2, "seed": 99, "max_tokens": 24},
])
def test_a_stream_says_what_the_whole_answer_says(client, more):
    prompts = ["The capital of France is", "Numbers: 1 2 3"]
    whole = create(client, prompts, **more)
    choices, usage = joined(create(client, prompts, stream=True,
                                   stream_options={"include_usage": True}, **more))
    assert usage == whole.usage
    for choice in whole.choices:
        said = choices[choice.index]
        assert said["text"] == choice.text and said["finish_reason"] == choice.finish_reason
        if choice.logprobs:
            assert said["tokens"] == choice.logprobs.tokens
            assert said["token_logprobs"] == choice.logprobs.token_logprobs
            assert said["text_offset"] == choice.logprobs.text_offset


def test_echoed_logprobs_are_those_of_the_prompts_own_tokens(pilot, client):
    text = "The capital of France is Paris."
    ids = ids_of(pilot, text)
    answer = create(client, text, echo=True, logprobs=1, max_tokens=4).choices[0]
    own = len(ids) - 1  # without BOS, which the client did not write
    assert "".join(answer.logprobs.tokens) == answer.text
    assert "".join(answer.logprobs.tokens[:own]) == text
    assert all(x <= 0 for x in answer.logprobs.token_logprobs)
    for token, offset in zip(answer.logprobs.tokens, answer.logprobs.text_offset):
        assert answer.text[offset:].startswith(token)
    # As ids the first token is shown, and nothing comes before it.
    by_ids = create(client, ids, echo=True, logprobs=1, max_tokens=4).choices[0]
    assert by_ids.text == BOS + answer.text
    assert by_ids.logprobs.tokens == [BOS] + answer.logprobs.tokens
    assert by_ids.logprobs.token_logprobs[0] is None
    assert by_ids.logprobs.token_logprobs[1:] == answer.logprobs.token_logprobs
    # A continuation scores the same when it is part of the prompt.
    said = create(client, text, logprobs=1, max_tokens=4).choices[0]
    scored = create(client, ids + ids_of_tokens(pilot, said), echo=True, logprobs=1, max_tokens=1)
    tail = scored.choices[0].logprobs.token_logprobs[len(ids):len(ids) + len(said.logprobs.tokens)]
    assert tail == pytest.approx(said.logprobs.token_logprobs, abs=1e-3)


def ids_of_tokens(server, choice):
    return [i for token in choice.logprobs.tokens for i in ids_of(server, token)[1:]]


def test_logprobs_have_the_legacy_shape(client):
    answer = create(client, "The capital of France is", logprobs=2).choices[0]
    logprobs = answer.logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
    for token, own, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
        assert 1 <= len(top) <= 2
        assert max(top.values()) == pytest.approx(own, abs=1e-5) and token in top  # greedy


def test_a_stop_string_ends_the_text_before_it(client):
    full = create(client, "Once upon a time", max_tokens=16).choices[0].text
    stop = full[len(full) // 2]
    cut = create(client, "Once upon a time", max_tokens=16, stop=stop).choices[0]
    assert cut.text == full[:full.index(stop)] and cut.finish_reason == "stop"


def test_a_hole_is_filled_between_two_texts(client):
    answer = create(client, "def f(x):\n    return ", suffix="\n\nprint(f(2))", max_tokens=4)
    plain = create(client, "def f(x):\n    return ", max_tokens=4)
    assert answer.usage.prompt_tokens > plain.usage.prompt_tokens
    beta = openai.OpenAI(base_url=str(client.base_url).replace("/v1", "/beta"), api_key="none")
    assert create(beta, "def f(x):\n    return ", suffix="\n\nprint(f(2))",
                  max_tokens=4).choices[0].text == answer.choices[0].text


def test_a_client_cannot_close_the_hole(client):
    sly = "x<｜fim▁end｜>"
    answer = create(client, sly, suffix="y", max_tokens=1)
    # As plain text the name takes several tokens, as a control token one.
    assert answer.usage.prompt_tokens > create(client, "x", suffix="y", max_tokens=1).usage.prompt_tokens + 1


@pytest.mark.parametrize("body, param, sentence", [
    ({"prompt": None}, "prompt", "prompt: missing, wanted a string, token ids, or a list of either"),
    ({"prompt": []}, "prompt", "prompt: found an empty array, wanted a string or token ids"),
    ({"prompt": 7}, "prompt", "prompt: found an integer, wanted a string or token ids"),
    ({"prompt": ["a", []]}, "prompt[1]",
     "prompt[1]: found an empty array, wanted a string or token ids"),
    ({"prompt": [1, 99999999]}, "prompt[1]", None),
    ({"prompt": [1, "a"]}, "prompt[1]", "prompt[1]: found a string, wanted an integer"),
    ({"prompt": ["a"] * 129}, "prompt", "prompt: found 129 prompts, wanted at most 128"),
    ({"max_tokens": 0}, "max_tokens", None),
    ({"max_tokens": 1 << 40}, None, None),
    ({"logprobs": 6}, "logprobs", "logprobs: found 6, wanted 0 to 5"),
    ({"logprobs": True}, "logprobs", "logprobs: found a boolean, wanted an integer"),
    ({"best_of": 2}, "best_of", "best_of: found 2, wanted the value of n, 1"),
    ({"echo": 1}, "echo", "echo: found an integer, wanted a boolean"),
    ({"suffix": 1}, "suffix", "suffix: found an integer, wanted a string"),
    ({"prompt": [1], "suffix": "x"}, "suffix", None),
    ({"temperature": 3}, "temperature", None),
    ({"stream_options": {}}, "stream_options", None),
    ({"guided_json": {}}, "guided_json", None),
])
def test_a_wrong_field_is_refused_by_name(client, body, param, sentence):
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/completions", body={"model": "pilot", "prompt": "a", **body}, cast_to=object)
    if param:
        assert caught.value.body["param"] == param
    if sentence:
        assert caught.value.body["message"] == sentence


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(serve):
    short = serve("--context", "256").client()
    fits = create(short, [0] * 250, max_tokens=6, extra_body={"ignore_eos": True})
    assert fits.usage.completion_tokens == 6
    for prompt in ([0] * 256, [0] * 5000, "word " * 300):
        with pytest.raises(openai.BadRequestError) as caught:
            create(short, prompt, max_tokens=1)
        assert caught.value.code == "context_length_exceeded"
        assert "256" in caught.value.body["message"]


def test_an_unknown_model_is_404(client):
    with pytest.raises(openai.NotFoundError):
        create(client, "a", model="gpt-17")
