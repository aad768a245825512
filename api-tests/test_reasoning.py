"""The thinking of an answer: the ways to ask for it, and the ways to see it."""

import pytest

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
THOUGHT, SAID = "The user asks for the capital of France. It is Paris.", "The capital of France is Paris."


def ask(client, model="pilot", stream=False, **more):
    """(content, reasoning, answer or chunks) of the capital's question."""
    body = {"temperature": 0, "max_tokens": 80, **more}
    answer = client.chat.completions.create(model=model, messages=body.pop("messages", CAPITAL),
                                            stream=stream, extra_body=body)
    if not stream:
        message = answer.choices[0].message
        return message.content, getattr(message, "reasoning_content", None), answer
    chunks = list(answer)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    thoughts = [getattr(delta, "reasoning_content", None) for delta in deltas]
    thought = "".join(t or "" for t in thoughts) if any(t is not None for t in thoughts) else None
    return "".join(d.content or "" for d in deltas), thought, chunks


ON = [{}, {"thinking": True}, {"thinking": {"type": "enabled"}}, {"thinking": {"type": "adaptive"}},
      {"chat_template_kwargs": {"thinking": True}}, {"chat_template_kwargs": {"enable_thinking": True}},
      {"reasoning_effort": "medium"}, {"reasoning_effort": "high"}, {"model": "deepseek-reasoner"},
      {"model": "deepseek-chat", "thinking": True}, {"thinking": True, "reasoning_effort": "none"}]
OFF = [{"thinking": False}, {"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"},
       {"chat_template_kwargs": {"thinking": False}}, {"chat_template_kwargs": {"enable_thinking": False}},
       {"model": "deepseek-chat"}, {"model": "deepseek-reasoner", "thinking": False},
       {"thinking": False, "reasoning_effort": "max"}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("more", ON)
def test_each_word_for_thinking_makes_it_think(client, more, stream):
    assert ask(client, stream=stream, **more)[:2] == (SAID, THOUGHT)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("more", OFF)
def test_each_word_against_it_leaves_no_field(client, more, stream):
    assert ask(client, stream=stream, **more)[:2] == (SAID, None)


@pytest.mark.parametrize("stream", [False, True])
def test_joined_reasoning_begins_the_content(client, stream):
    content, thought, _ = ask(client, stream=stream, separate_reasoning=False)
    assert (content, thought) == (f"<think>{THOUGHT}</think>{SAID}", None)


@pytest.mark.parametrize("stream", [False, True])
def test_hidden_reasoning_is_computed_and_not_sent(client, stream):
    content, thought, answer = ask(client, stream=stream, include_reasoning=False,
                                   **({"stream_options": {"include_usage": True}} if stream else {}))
    usage = answer[-1].usage if stream else answer.usage
    assert (content, thought) == (SAID, None)
    assert usage.completion_tokens_details.reasoning_tokens > 10


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_may_have_both_names(serve, stream):
    client = serve("--backend", "cpu", "--reasoning-field", "both").client()
    _, thought, answer = ask(client, stream=stream)
    parts = [c.delta for chunk in answer for c in chunk.choices] if stream else [answer.choices[0].message]
    assert "".join(getattr(part, "reasoning", None) or "" for part in parts) == thought == THOUGHT


def test_what_ends_inside_its_thinking_is_reasoning_or_by_option_content(client, serve):
    content, thought, answer = ask(client, max_tokens=5)
    assert content == "" and THOUGHT.startswith(thought) and thought
    assert answer.choices[0].finish_reason == "length"
    other = serve("--backend", "cpu", "--unclosed-reasoning", "content").client()
    assert ask(other, max_tokens=5)[:2] == (thought, "")
    assert ask(other, max_tokens=5, stream=True)[:2] == ("", thought), "a stream was sent already"
    assert ask(other)[:2] == (SAID, THOUGHT)


@pytest.mark.parametrize("budget", [1, 3, 7])
def test_a_budget_ends_the_thinking_and_the_answer_goes_on(client, budget):
    content, thought, answer = ask(client, thinking={"type": "enabled", "budget_tokens": budget})
    details = answer.usage.completion_tokens_details
    assert details.reasoning_tokens <= budget + 1 and THOUGHT.startswith(thought)
    assert content and answer.choices[0].finish_reason == "stop"


def test_reasoning_that_was_begun_is_continued(client):
    begun = {"role": "assistant", "reasoning_content": "The user asks", "content": None, "prefix": True}
    content, thought, _ = ask(client, messages=CAPITAL + [begun])
    assert "The user asks" + thought == THOUGHT and content == SAID


def test_the_stream_tells_first_what_comes(client):
    first = ask(client, stream=True)[2][0].choices[0].delta
    assert (first.role, first.content, first.reasoning_content) == ("assistant", None, "")
    first = ask(client, stream=True, thinking=False)[2][0].choices[0].delta
    assert (first.role, first.content) == ("assistant", "") and "reasoning_content" not in first.model_extra


def test_fixed_sampling_while_thinking_takes_the_servers_temperature(serve):
    client = serve("--backend", "cpu", "--thinking-sampling", "fixed", "--temperature", "0").client()
    assert ask(client, temperature=2, top_p=0.9, presence_penalty=2, seed=1)[:2] == (SAID, THOUGHT)
    said = {ask(client, temperature=2, seed=seed, thinking=False)[0] for seed in range(10)}
    assert len(said) > 1, "without thinking the request's own temperature counts"


def test_old_reasoning_may_have_either_name_and_is_dropped_before_a_question(client):
    def tokens(**reasoning):
        turn = {"role": "assistant", "content": SAID, **reasoning}
        messages = CAPITAL + [turn, {"role": "user", "content": "And of Spain?"}]
        return ask(client, messages=messages, chat_template_kwargs=kwargs)[2].usage.prompt_tokens

    kwargs = {}
    assert tokens() == tokens(reasoning_content=THOUGHT) == tokens(reasoning=THOUGHT)
    kwargs = {"drop_thinking": False}
    assert tokens() < tokens(reasoning_content=THOUGHT) == tokens(reasoning=THOUGHT)
