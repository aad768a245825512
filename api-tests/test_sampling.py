"""What steers sampling: seeds, cuts, penalties, biases, stops and lengths."""

import concurrent.futures

import pytest

POEM = [{"role": "user", "content": "Write a line of a poem."}]
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
SAID = "The capital of France is Paris."


def ask(client, messages=POEM, **more):
    known = {name: more.pop(name) for name in ("n", "seed", "max_tokens", "temperature") if name in more}
    known = {"max_tokens": 40, "temperature": 0, **known}
    return client.chat.completions.create(model="pilot", messages=messages, **known,
                                          extra_body={"thinking": False, **more})


def text(client, messages=POEM, **more):
    return ask(client, messages, **more).choices[0].message.content


def raw(client, prompt, **more):
    known = {"max_tokens": 40, "temperature": 0, "seed": 1}
    known.update({name: more.pop(name) for name in list(more) if name in known})
    return client.completions.create(model="pilot", prompt=prompt, **known, extra_body=more).choices[0].text


def ids_of(server, content):
    return server.post("/tokenize", {"content": content})["tokens"]


def test_a_seed_gives_its_text_alone_and_in_company(client):
    hot = {"temperature": 1.5, "max_tokens": 30}
    alone = {seed: text(client, seed=seed, **hot) for seed in range(6)}
    assert len(set(alone.values())) > 3, "seeds differ"
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        others = [pool.submit(text, client, CAPITAL, seed=i, temperature=2) for i in range(20)]
        again = {seed: pool.submit(text, client, seed=seed, **hot) for seed in alone}
        assert {seed: found.result() for seed, found in again.items()} == alone
        assert all(found.result() is not None for found in others)


def test_without_a_seed_answers_differ(client):
    assert len({text(client, temperature=1.5) for _ in range(5)}) > 1


def test_choices_are_seeded_apart_and_the_first_is_the_seeds_own(serve):
    client = serve("--backend", "cpu", "--max-n", "8").client()
    hot = {"temperature": 1.5, "seed": 11, "max_tokens": 20}
    answer = ask(client, n=8, **hot)
    said = [choice.message.content for choice in answer.choices]
    assert len(set(said)) > 3 and said[0] == text(client, **hot)
    assert said == [c.message.content for c in ask(client, n=8, **hot).choices]
    assert answer.usage.prompt_tokens == ask(client, **hot).usage.prompt_tokens
    assert answer.usage.completion_tokens > ask(client, **hot).usage.completion_tokens


@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}, {"temperature": 1e-6}])
def test_each_cut_at_its_end_is_greedy(client, cut):
    greedy = text(client)
    assert text(client, **{"temperature": 2, "seed": 5, **cut}) == greedy
    assert any(text(client, temperature=2, seed=seed) != greedy for seed in range(5, 10))


@pytest.mark.parametrize("penalty", [{"frequency_penalty": 2}, {"presence_penalty": 2},
                                     {"repetition_penalty": 1.5}, {"repeat_penalty": 1.5}])
def test_penalties_lessen_repetition(client, penalty):
    prompt = "one two three one two three one two three one two three one two"
    loop = raw(client, prompt, ignore_eos=True)
    varied = raw(client, prompt, ignore_eos=True, **penalty)
    assert varied != loop and len(set(varied.split())) > len(set(loop.split()))


def test_a_negative_penalty_and_none_are_served(client):
    assert text(client, CAPITAL, frequency_penalty=0, presence_penalty=0, repetition_penalty=1) == SAID
    assert text(client, CAPITAL, frequency_penalty=-2)


def test_a_bias_bans_and_forces_tokens(pilot, client):
    (paris,) = ids_of(pilot, "Paris")
    assert text(client, CAPITAL, logit_bias={str(paris): -100}) != SAID
    assert "Paris" not in text(client, CAPITAL, logit_bias={str(paris): -100})
    forced = text(client, CAPITAL, logit_bias={str(paris): 100}, max_tokens=5)
    assert forced == "Paris" * 5


@pytest.mark.parametrize("stop, said", [
    ("Paris", "The capital of France is "), (["zz", " is"], "The capital of France"),
    (["The"], ""), (["", "capital"], "The "), (["l of F"], "The capita"), ([], SAID), ("", SAID),
    ([f"no{i}" for i in range(15)] + ["."], SAID[:-1]),
])
def test_stop_strings_end_the_content_wherever_they_are_cut(client, stop, said):
    answer = ask(client, CAPITAL, stop=stop)
    assert answer.choices[0].message.content == said and answer.choices[0].finish_reason == "stop"
    streamed = client.chat.completions.create(model="pilot", messages=CAPITAL, temperature=0, stop=stop,
                                              stream=True, extra_body={"thinking": False})
    assert "".join(c.delta.content or "" for chunk in streamed for c in chunk.choices) == said


def test_stop_strings_do_not_end_the_thinking(client):
    answer = ask(client, CAPITAL, thinking=True, stop=["user"], max_tokens=80).choices[0]
    assert "user" in answer.message.reasoning_content and answer.message.content == SAID


def test_stop_tokens_end_the_answer_and_are_not_in_it(pilot, client):
    (paris,) = ids_of(pilot, "Paris")
    answer = ask(client, CAPITAL, stop_token_ids=[paris])
    assert answer.choices[0].message.content == "The capital of France is "
    assert answer.choices[0].finish_reason == "stop"


def test_lengths_are_kept_to(client):
    assert ask(client, CAPITAL, max_tokens=3).usage.completion_tokens == 3
    assert ask(client, CAPITAL, max_tokens=9, max_completion_tokens=4).usage.completion_tokens == 4
    assert ask(client, CAPITAL, max_tokens=4, max_completion_tokens=9).usage.completion_tokens == 4
    plain = ask(client, CAPITAL)
    assert plain.usage.completion_tokens == 11 and plain.choices[0].finish_reason == "stop"
    endless = ask(client, CAPITAL, ignore_eos=True, max_tokens=30)
    assert endless.usage.completion_tokens == 30 and endless.choices[0].finish_reason == "length"
    longer = ask(client, CAPITAL, min_tokens=20)
    assert longer.usage.completion_tokens >= 20


def test_the_servers_defaults_come_from_the_checkpoint_or_its_options(pilot, serve):
    client = pilot.client()
    default = client.chat.completions.create(model="pilot", messages=POEM, seed=3, max_tokens=40,
                                             extra_body={"thinking": False}).choices[0].message.content
    assert default == text(client, seed=3, temperature=0.3, top_p=0.95)  # generation_config.json
    greedy = serve("--backend", "cpu", "--temperature", "0").client()
    said = greedy.chat.completions.create(model="pilot", messages=POEM, max_tokens=40,
                                          extra_body={"thinking": False}).choices[0].message.content
    assert said == text(client)
