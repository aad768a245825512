"""Conversations that come back are tokenized as the model wrote them. The scripted engine writes
letter by letter what the tokenizer would write in words."""

import pytest

WORDS = "The weather in Oslo is fine"
ASK = [{"role": "user", "content": "hello"}]


def letters(server, text):
    """One id for each byte."""
    return [server.post("/tokenize", {"content": letter})["tokens"][0] for letter in text]


def ids_of(server, answer, **more):
    messages = [*more.pop("before", ASK), {"role": "assistant", **answer},
                {"role": "user", "content": "and then?"}]
    return server.post("/tokenize", {"messages": messages, **more})["tokens"]


def holds(ids, part):
    return any(ids[i:i + len(part)] == part for i in range(len(ids)))


@pytest.fixture
def speller(serve):
    """A daemon whose answers are spelled; say(text) sets what. The ids of control tokens are asked."""
    letter_ids = {}
    first = serve()
    control = {}
    for name in ("</think>", "<｜end▁of▁sentence｜>", "｜DSML｜"):
        control[name] = first.post("/tokenize", {"prompt": name, "add_special_tokens": False})["tokens"][0]
    for letter in sorted(set(WORDS + "\n<>/ =\"abcdefghijklmnopqrstuvwxyz_")):
        letter_ids[letter] = first.post("/tokenize", {"content": letter})["tokens"][0]
    first.stop()

    def spell(text):
        ids = []
        while text:
            name = next((name for name in control if text.startswith(name)), None)
            ids.append(control[name] if name else letter_ids[text[0]])
            text = text[len(name) if name else 1:]
        return ids

    def start(*arguments, text, finish="stop"):
        server = serve(*arguments, script=[{"tokens": spell(text), "finish": finish}])
        server.spell = spell
        return server

    return start


def chat(server, **fields):
    fields.setdefault("messages", ASK)
    return server.post("/v1/chat/completions", {"thinking": False, **fields})["choices"][0]["message"]


def test_an_answer_comes_back_as_it_was_sampled(speller):
    server = speller(text=WORDS)
    answer = {"content": WORDS}
    before = ids_of(server, answer, thinking=False)
    assert not holds(before, server.spell(WORDS))
    assert chat(server)["content"] == WORDS
    after = ids_of(server, answer, thinking=False)
    assert holds(after, server.spell(WORDS))
    now = server.metrics()
    assert now["text_alias_answers"] == 1 and now["text_alias_bytes"] > 4 * len(WORDS)
    assert now['text_alias_lookups_total{result="found"}'] == 1


def test_only_for_who_asked_and_in_that_conversation(speller):
    server = speller(text=WORDS)
    chat(server, user_id="a", cache_salt="s")
    answer, said = {"content": WORDS}, server.spell(WORDS)
    assert holds(ids_of(server, answer, thinking=False, user_id="a", cache_salt="s"), said)
    assert not holds(ids_of(server, answer, thinking=False), said)
    assert not holds(ids_of(server, answer, thinking=False, user_id="a"), said)
    assert not holds(ids_of(server, answer, thinking=False, user_id="b", cache_salt="s"), said)
    other = [{"role": "user", "content": "hello!"}]
    assert not holds(ids_of(server, answer, before=other, thinking=False, user_id="a",
                            cache_salt="s"), said)
    assert not holds(ids_of(server, {"content": WORDS + "."}, thinking=False, user_id="a",
                            cache_salt="s"), said)


def test_an_answer_cut_by_length_comes_back(speller):
    server = speller(text=WORDS)
    assert chat(server, max_tokens=11)["content"] == WORDS[:11]
    assert holds(ids_of(server, {"content": WORDS[:11]}, thinking=False), server.spell(WORDS[:11]))


def test_newlines_that_the_client_does_not_see_come_back(speller):
    server = speller(text="\n\n" + WORDS)
    assert chat(server)["content"] == WORDS
    assert holds(ids_of(server, {"content": WORDS}, thinking=False), server.spell("\n\n" + WORDS))


def test_what_a_stop_string_cut_off_does_not_come_back(speller):
    server = speller(text=WORDS)
    assert chat(server, stop=" Oslo")["content"] == "The weather in"
    ids = ids_of(server, {"content": "The weather in"}, thinking=False)
    assert not holds(ids, server.spell("The weather in"))


def test_reasoning_comes_back_where_the_prompt_keeps_it(speller):
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    server = speller(text="is it" + "</think>" + WORDS)
    answer = chat(server, thinking=True, tools=tools)
    assert answer["reasoning_content"] == "is it" and answer["content"] == WORDS
    ids = ids_of(server, {k: answer[k] for k in ("content", "reasoning_content")}, thinking=True,
                 tools=tools)
    assert holds(ids, server.spell("is it</think>" + WORDS))


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_comes_back_with_what_stood_before_it(speller, choice):
    tools = [{"type": "function", "function": {"name": "look", "parameters": {
        "type": "object", "properties": {"at": {"type": "string"}}}}}]
    rest = ('<｜DSML｜invoke name="look">\n<｜DSML｜parameter name="at" string="true">the sea'
            "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>")
    text = rest if choice == "required" else "is it\n\n<｜DSML｜tool_calls>\n" + rest
    server = speller(text=text)
    answer = chat(server, tools=tools, tool_choice=choice)
    call = answer["tool_calls"][0]
    assert call["function"]["arguments"] == '{"at": "the sea"}'
    messages = [*ASK, {k: answer[k] for k in ("role", "content", "tool_calls")},
                {"role": "tool", "tool_call_id": call["id"], "content": "blue"}]
    ids = server.post("/tokenize", {"messages": messages, "tools": tools, "thinking": False})["tokens"]
    assert holds(ids, server.spell(text))


def test_a_continued_answer_comes_back_whole(speller):
    server = speller(text=" in Oslo")
    answer = chat(server, messages=[*ASK, {"role": "assistant", "content": "The weather",
                                           "prefix": True}])
    assert answer["content"] == " in Oslo"
    ids = ids_of(server, {"content": "The weather in Oslo"}, thinking=False)
    assert holds(ids, server.spell(" in Oslo"))


def test_what_is_not_to_be_stored_does_not_come_back(speller):
    server = speller(text=WORDS)
    assert chat(server, no_store=True)["content"] == WORDS
    assert not holds(ids_of(server, {"content": WORDS}, thinking=False), server.spell(WORDS))
    assert server.metrics()["text_alias_answers"] == 0


def test_it_can_be_switched_off(speller):
    server = speller("--text-alias", "0", text=WORDS)
    chat(server)
    assert not holds(ids_of(server, {"content": WORDS}, thinking=False), server.spell(WORDS))
    assert server.metrics()["text_alias_answers"] == 0
