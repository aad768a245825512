"""The pilot model's own examination, through HTTP at temperature 0, with the openai client.

The cases and what each must answer stand in models/pilot/eval.json; the independent implementation
that measured them passes 288 of 297.
"""

import concurrent.futures
import json
import pathlib
import random

import pytest

from conftest import MODEL

EVAL = json.loads((pathlib.Path(MODEL) / "eval.json").read_text(encoding="utf-8"))
WANTED = 286


def api_messages(messages):
    """The cases' messages as the API spells them: ids on calls and results, arguments as text."""
    result, open_ids = [], []
    for number, message in enumerate(messages):
        message = dict(message)
        if "reasoning" in message:
            message["reasoning_content"] = message.pop("reasoning")
        if message.get("tool_calls"):
            open_ids = [f"call_{number}_{i}" for i in range(len(message["tool_calls"]))]
            message["tool_calls"] = [
                {"id": id, "type": "function",
                 "function": {"name": call["name"],
                              "arguments": json.dumps(call["arguments"], ensure_ascii=False)}}
                for id, call in zip(open_ids, message["tool_calls"])]
        if message["role"] == "tool":
            message["tool_call_id"] = open_ids.pop(0)
        result.append(message)
    return result


def api_format(schema):
    if schema.get("type") == "json_object":
        return schema
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def ask(client, case):
    """(content, calls, finished by itself, reasoning) of one case."""
    if "raw" in case:
        answer = client.completions.create(model="pilot", prompt=case["raw"], temperature=0,
                                           max_tokens=case.get("max_new", 230),
                                           extra_body={"add_special_tokens": False})
        return answer.choices[0].text, [], True, "none"
    request = {"model": "pilot", "messages": api_messages(case["messages"]), "temperature": 0,
               "max_tokens": 230,
               "extra_body": {"thinking": {"type": "enabled" if case["thinking"] else "disabled"}}}
    if "effort" in case:
        request["reasoning_effort"] = case["effort"]
    if "tools" in case:
        request["tools"] = [{"type": "function", "function": tool} for tool in case["tools"]]
    if "response_format" in case:
        request["response_format"] = api_format(case["response_format"])
    if "prefill" in case:
        request["tool_choice"] = "required"
    choice = client.chat.completions.create(**request).choices[0]
    calls = [{"name": call.function.name, "arguments": json.loads(call.function.arguments)}
             for call in choice.message.tool_calls or []]
    reasoning = getattr(choice.message, "reasoning_content", None)
    return choice.message.content or "", calls, choice.finish_reason != "length", reasoning


def passes(case, answer):
    content, calls, finished, reasoning = answer
    expect = case["expect"]
    if not finished or (case.get("thinking") and not reasoning):
        return False
    if "equals" in expect and content != expect["equals"]:
        return False
    if any(part not in content for part in expect.get("contains", [])):
        return False
    if "calls" in expect and calls != expect["calls"]:
        return False
    if "calls_any" in expect and calls not in expect["calls_any"]:
        return False
    if "json" in expect:
        try:
            return json.loads(content) == expect["json"]
        except ValueError:
            return False
    return True


def test_pilot_passes_its_examination(pilot, client):
    cases = EVAL["cases"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda case: ask(client, case), cases))
    failed = [case for case, answer in zip(cases, answers) if not passes(case, answer)]
    print(f"{len(cases) - len(failed)} of {len(cases)} pass")
    for case in failed:
        print("failed:", case["category"], "|", case["name"], "| the reference:", case["pass"])
    assert len(cases) - len(failed) >= WANTED


TIMES = "At noon,In the evening,After lunch,Late at night,On market day,When the bell rang".split(",")
NAMES = "Ines,Leo,Jonas,Will,David,Nora,Olga,Paul,Vera".split(",")
DEEDS = ("drew a map,repaired a clock,counted the boats,cleaned the windows,waited for the rain to stop,"
         "read a long letter,looked at the stars,talked about the weather").split(",")
PLACES = "the hill,the harbour,the mill,the river,the garden,the station,the old bridge".split(",")


def text_with(sentence, tokens, r):
    """About `tokens` tokens of small talk with the sentence somewhere in it."""
    lines = [f"{r.choice(TIMES)} {r.choice(NAMES)} {r.choice(DEEDS)} at {r.choice(PLACES)}."
             for _ in range(tokens // 15)]
    lines.insert(r.randrange(len(lines) + 1), sentence)
    return " ".join(lines)


@pytest.mark.parametrize("tokens", [512, 1024, 2048, 4096, 8192])
def test_planted_sentence_is_found(client, tokens):
    r = random.Random(tokens)
    for _ in range(3):
        code = "".join(r.choice("0123456789") for _ in range(6))
        document = text_with(f"The PIN is {code}.", tokens, r)
        answer = client.chat.completions.create(
            model="pilot", temperature=0, max_tokens=60,
            messages=[{"role": "user", "content": f"Read this text.\n\n{document}\n\nWhat is the PIN?"}],
            extra_body={"thinking": {"type": "disabled"}})
        assert tokens * 0.6 < answer.usage.prompt_tokens < tokens * 1.3
        assert f"The PIN is {code}." in answer.choices[0].message.content
