"""GET /v1/models: the names that are served."""

import anthropic
import openai
import pytest


def test_the_list_holds_the_served_name_and_its_aliases(client):
    names = [model.id for model in client.models.list()]
    assert names[0] == "pilot"
    assert {"deepseek-flash", "deepseek-chat", "deepseek-reasoner"} <= set(names)
    assert len(names) == len(set(names))


def test_each_name_of_the_list_can_be_asked_for(client):
    for listed in client.models.list():
        one = client.models.retrieve(listed.id)
        assert one == listed
        assert one.object == "model" and one.owned_by == "fathom"
        assert one.context_length >= one.max_output_tokens > 0


def test_an_unknown_name_is_404(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-17")
    assert caught.value.code == "model_not_found"
    assert caught.value.body["param"] == "model"


def test_a_name_with_a_slash_may_come_escaped(serve):
    server = serve("--served-model-name", "our/model")
    assert server.client().models.retrieve("our/model").id == "our/model"


def test_anthropics_client_finds_its_own_members(pilot, client):
    models = anthropic.Anthropic(base_url=pilot.url, api_key="none").models
    listed = list(models.list())
    assert [model.id for model in listed] == [model.id for model in client.models.list()]
    assert all(model.type == "model" and model.display_name == model.id for model in listed)
    one = models.retrieve("pilot")
    assert one.created_at.year >= 2025 and one == listed[0]
