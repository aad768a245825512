"""Prompt encoding of dialect v4, policy `reference`: the subset that the pilot needs.

render() returns [(text, trained)]. Every boundary follows an added token, so the pieces may be
tokenized one by one. The fixed strings of the format lie in prompt_strings.json.
"""

import json
from pathlib import Path

S = json.loads((Path(__file__).parent / "prompt_strings.json").read_text(encoding="utf-8"))
T = S["special_tokens"]
BOS, EOS, USER, ASSIST, REMIND, DSML, THINK, END = (
    T[k]
    for k in (
        "bos",
        "eos",
        "user",
        "assistant",
        "latest_reminder",
        "dsml",
        "think_open",
        "think_close",
    )
)
FIM = T["fim"]
BEFORE, AFTER = S["tools_block_before_schemas"]["v4"], S["tools_block_after_schemas"]
FORMAT, MAX = S["response_format_before_schema"], S["effort_prefix"]["v4"]["max"]
dump = lambda x: json.dumps(x, ensure_ascii=False)


def calls_text(calls):
    out = [f"<{DSML}tool_calls>"]
    for c in calls:
        out.append(f'<{DSML}invoke name="{c["name"]}">')
        args = [
            f'<{DSML}parameter name="{k}" string="{"true" if isinstance(v, str) else "false"}">{v if isinstance(v, str) else dump(v)}</{DSML}parameter>'
            for k, v in c["arguments"].items()
        ]
        out += args or [""]
        out.append(f"</{DSML}invoke>")
    return "\n".join(out + [f"</{DSML}tool_calls>"])


def render(conv, generate=False):
    """conv: {messages, tools, thinking, effort, response_format}; generate: end with the assistant header."""
    think, tools, ms = conv.get("thinking", False), conv.get("tools"), conv["messages"]
    head = MAX if think and conv.get("effort") == "max" else ""
    fmt = conv.get("response_format")
    if tools or fmt:
        if ms[0]["role"] != "system":
            ms = [{"role": "system", "content": ""}] + ms
    last = max([i for i, m in enumerate(ms) if m["role"] in ("user", "tool")], default=-1)
    drop = not tools
    while last > 0 and ms[last]["role"] == "tool" and ms[last - 1]["role"] in ("tool", "user"):
        last -= 1  # folded
    out, cur = [], BOS + head
    i = 0
    while i < len(ms):
        m = ms[i]
        if m["role"] == "system":
            cur += m["content"]
            if i == 0 and tools:
                cur += "\n\n" + BEFORE + "\n".join(dump(t) for t in tools) + AFTER
            if i == 0 and fmt:
                cur += "\n\n" + FORMAT + dump(fmt)
        elif m["role"] == "latest_reminder":
            cur += REMIND + m["content"]
        elif m["role"] in ("user", "tool"):
            j, parts = i, []
            while j < len(ms) and ms[j]["role"] in ("user", "tool"):
                parts.append(
                    ms[j]["content"]
                    if ms[j]["role"] == "user"
                    else f'<tool_result>{ms[j]["content"]}</tool_result>'
                )
                j += 1
            cur += USER + "\n\n".join(parts)
            if (
                j == len(ms)
                and generate
                or j < len(ms)
                and ms[j]["role"] in ("assistant", "latest_reminder")
            ):
                cur += ASSIST + (THINK if think and (not drop or i >= last) else END)
            i = j - 1
        else:
            t = ""
            if think and (not drop or i > last):
                t += m.get("reasoning", "") + END
            t += m.get("content", "")
            if m.get("tool_calls"):
                t += "\n\n" + calls_text(m["tool_calls"])
            if cur:
                out.append((cur, False))
            out.append((t + EOS, True))
            cur = ""
        i += 1
    if cur:
        out.append((cur, False))
    return out
