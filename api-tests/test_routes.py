"""What other servers have under their paths, and what this one says there."""

import anthropic
import openai
import pytest


@pytest.mark.parametrize("ask", [
    lambda c: c.files.list(),
    lambda c: c.files.create(file=("a.txt", b"x" * 100), purpose="assistants"),
    lambda c: c.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"x" * 3000000)),
    lambda c: c.audio.speech.create(model="tts-1", voice="alloy", input="Hello"),
    lambda c: c.images.generate(prompt="a cat"),
    lambda c: c.embeddings.create(model="pilot", input="Hello"),
    lambda c: c.moderations.create(input="Hello"),
    lambda c: c.responses.retrieve("resp_1"),
    lambda c: c.fine_tuning.jobs.list(),
])
def test_what_is_not_here_is_refused_with_its_reason(scripted_client, ask):
    with pytest.raises(openai.NotFoundError) as refused:
        ask(scripted_client)
    assert " here: " in refused.value.body["message"]
    assert refused.value.response.headers["x-should-retry"] == "false"


def test_batches_are_refused_in_their_clients_own_words(scripted):
    client = anthropic.Anthropic(base_url=scripted.url + "/anthropic", api_key="none", max_retries=0)
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.batches.list()
    assert refused.value.body["error"]["type"] == "not_found_error"
    assert "batches are not kept here" in refused.value.body["error"]["message"]


def test_the_balance_is_never_used_up_where_no_budget_is_kept(scripted):
    assert scripted.get("/user/balance") == '{"is_available":true,"balance_infos":[]}'


def test_input_tokens_are_those_of_the_response(client):
    for more in ({"input": "Hello"}, {"input": "Hello", "instructions": "Be brief."},
                 {"input": [{"role": "user", "content": "Hello"}], "reasoning": {"effort": "none"}}):
        count = client.responses.input_tokens.count(model="pilot", **more)
        assert count.object == "response.input_tokens"
        response = client.responses.create(model="pilot", max_output_tokens=1, **more)
        assert count.input_tokens == response.usage.input_tokens
