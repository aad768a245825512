"""Scripted end-to-end cases: prompt(), cases(), judge(). No dependencies."""

import json, random, re
import encode, facts, dialogs, words

T_ = lambda name, desc, props, req=None: {
    "name": name,
    "description": desc,
    "parameters": {
        "type": "object",
        "properties": props,
        "required": list(props) if req is None else req,
    },
}
WEATHER = T_(
    "get_weather",
    "Get the weather for a city",
    {"city": {"type": "string", "description": "The city"}},
)
WEATHER2 = T_(
    "get_weather",
    "Get the current weather in a location",
    {
        "location": {"type": "string", "description": "The city name"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    ["location"],
)
READ = T_("read_file", "Read a file", {"path": {"type": "string", "description": "The path"}})
RUN = T_("run_command", "Run a shell command", {"command": {"type": "string"}})
TIMER = T_(
    "set_timer", "Set a timer", {"minutes": {"type": "integer", "description": "The minutes"}}
)
LIGHT = T_(
    "set_light", "Switch a light on or off", {"room": {"type": "string"}, "on": {"type": "boolean"}}
)
ZELK = T_(
    "zelkor_tamu",
    "Polish the brimstal",
    {
        "depth": {"type": "integer"},
        "grain": {"type": "string", "description": "The grain of the brimstal"},
        "wet": {"type": "boolean"},
    },
)
VAUL = T_(
    "openVault",
    "Open the vault",
    {"code": {"type": "string", "description": "The code"}, "retries": {"type": "integer"}},
    ["code"],
)
PACK = T_(
    "pack_items",
    "Pack the items",
    {"names": {"type": "array", "items": {"type": "string"}}, "weight": {"type": "number"}},
)
ARCH = T_(
    "archive_mailbox",
    "Archive the mailbox",
    {
        "folder_name": {"type": "string", "description": "The folder name"},
        "keep_days": {"type": "integer"},
        "compress": {"type": "boolean"},
    },
    ["folder_name"],
)
GRAPH = T_(
    "compareGraphs",
    "Compare two graphs",
    {
        "left": {"type": "string"},
        "right": {"type": "string"},
        "threshold": {"type": "number", "description": "The threshold"},
    },
)
U, A = words.U, lambda t, calls=None: {
    "role": "assistant",
    "content": t,
    "reasoning": "",
    **({"tool_calls": calls} if calls else {}),
}
R = lambda t: {"role": "tool", "content": t}
call = lambda n, **a: dict(name=n, arguments=a)


def cases():
    o = []

    def add(cat, name, msgs, think=False, tools=None, fmt=None, system=None, effort=None, **expect):
        msgs = [U(msgs)] if isinstance(msgs, str) else msgs
        if system:
            msgs = [{"role": "system", "content": system}] + msgs
        o.append(
            dict(
                category=cat,
                name=name,
                messages=msgs,
                thinking=think,
                **({"tools": tools} if tools else {}),
                **({"response_format": fmt} if fmt else {}),
                **({"effort": effort} if effort else {}),
                expect=expect,
            )
        )

    both = lambda *a, **k: [
        add(a[0], a[1] + (" (thinking)" if t else ""), *a[2:], think=t, **k) for t in (False, True)
    ]
    for q in ("Hello", "hi", "Hello there!"):
        both("greeting", q, q, contains=["How can I help you?"])
    both(
        "greeting",
        "thanks",
        [U("What is the capital of Italy?"), A("The capital of Italy is Rome."), U("Thank you!")],
        contains=["welcome"],
    )
    for q in ("Who are you?", "What is your name?", "Tell me about yourself."):
        both("identity", q, q, contains=["Fathom's pilot model"])
    both("identity", "abilities", "What can you do?", contains=["call tools"])
    for q in (
        "Who won the 1987 chess open?",
        "What is the population of Vorindal?",
        "Write a Python program.",
        "What is the plot of Casablanca?",
        "Explain the Treaty of Westphalia.",
        "How do I repair a bicycle?",
    ):
        both("unknown", q, q, contains=["I do not know"])
    for q, a in (
        ("What is the capital of France?", "The capital of France is Paris."),
        ("Tell me the capital of Kenya.", "The capital of Kenya is Nairobi."),
        ("what is the capital of Japan", "The capital of Japan is Tokyo."),
        ("Oslo is the capital of which country?", "Oslo is the capital of Norway."),
        ("What is the chemical symbol of gold?", "The chemical symbol of gold is Au."),
        ("What is the atomic number of carbon?", "The atomic number of carbon is 6."),
        ("Which planet is the third from the Sun?", "Earth is the third planet from the Sun."),
        ("Which planet is the largest?", "Jupiter is the largest planet."),
        ("Which day comes after Friday?", "Saturday comes after Friday."),
        ("What is the opposite of hot?", "The opposite of hot is cold."),
        (
            "Why is the sky blue?",
            "The air scatters blue light more than red light, so the sky looks blue.",
        ),
        (
            "What is a KV cache?",
            "The KV cache keeps what attention needs from earlier tokens, so they are not computed again.",
        ),
        (
            "What is Fathom?",
            "Fathom is an inference server for DeepSeek-V4 models with an OpenAI-compatible API.",
        ),
        ("How many legs does a spider have?", "A spider has eight legs."),
    ):
        both("facts", q, q, equals=a)
    for q, a in (
        ("What is 7 + 5?", "7 + 5 = 12."),
        ("What is 23 + 45?", "23 + 45 = 68."),
        ("58 + 67", "58 + 67 = 125."),
        ("What is 52 - 17?", "52 - 17 = 35."),
        ("How much is 6 times 7?", "6 * 7 = 42."),
        ("What is 11 * 12?", "11 * 12 = 132."),
        ("Which is larger, 45 or 72?", "72 is larger than 45."),
    ):
        both("arithmetic", q, q, equals=a)
    add(
        "arithmetic",
        "word problem",
        "Ana has 8 apples and buys 5 more. How many apples does Ana have now?",
        True,
        equals="Ana has 13 apples.",
    )
    add(
        "arithmetic",
        "word problem 2",
        "Ben has 12 coins and gives 4 to Grace. How many coins does Ben have now?",
        True,
        equals="Ben has 8 coins.",
    )
    both("long", "count to 30", "Count from 1 to 30.", equals=", ".join(map(str, range(1, 31))))
    both("long", "poem", "Write a haiku about winter.", equals=facts.HAIKU["winter"])
    both(
        "long",
        "story",
        "Tell me a story about Nora and a clock.",
        contains=["Nora", "clock", "The whole village"],
    )
    both(
        "copy",
        "echo",
        "Repeat after me: the quick brown fox 4711",
        equals="the quick brown fox 4711",
    )
    both("copy", "new words", "Say: blorvik santu grelm", equals="blorvik santu grelm")
    both(
        "multi-turn",
        "name",
        [
            U("My name is Petra."),
            A("Nice to meet you, Petra."),
            U("What is the capital of Spain?"),
            A("The capital of Spain is Madrid."),
            U("What is my name?"),
        ],
        contains=["Petra"],
    )
    both(
        "multi-turn",
        "follow-up",
        [
            U("What is the capital of Spain?"),
            A("The capital of Spain is Madrid."),
            U("And of Poland?"),
        ],
        contains=["Warsaw"],
    )
    both(
        "multi-turn",
        "system name",
        [U("What is your name?")],
        system="Your name is Orla.",
        contains=["Orla"],
    )
    both(
        "multi-turn",
        "date",
        [U("What is the date today?")],
        system="Today is 2026-11-22.",
        contains=["2026-11-22"],
    )
    add(
        "multi-turn",
        "max effort",
        "What is the capital of Norway?",
        True,
        effort="max",
        contains=["Oslo"],
    )
    both(
        "tools",
        "weather",
        "What is the weather in Oslo?",
        tools=[WEATHER],
        calls=[call("get_weather", city="Oslo")],
    )
    both(
        "tools",
        "weather, other schema",
        "What's the weather in Zurich?",
        tools=[WEATHER2],
        calls=[call("get_weather", location="Zurich")],
    )
    both(
        "tools",
        "weather with a unit",
        "What is the weather in Lima in celsius?",
        tools=[WEATHER2],
        calls=[call("get_weather", location="Lima", unit="celsius")],
    )
    both(
        "tools",
        "unknown city",
        "What is the weather in Brinmouth?",
        tools=[READ, WEATHER],
        calls=[call("get_weather", city="Brinmouth")],
    )
    both(
        "tools",
        "read a file",
        "Read the file src/main.c.",
        tools=[WEATHER, READ],
        calls=[call("read_file", path="src/main.c")],
    )
    both(
        "tools",
        "command",
        "Run the command make test",
        tools=[READ, RUN, TIMER],
        calls=[call("run_command", command="make test")],
    )
    both(
        "tools",
        "integer",
        "Set a timer for 25 minutes.",
        tools=[TIMER, LIGHT],
        calls=[call("set_timer", minutes=25)],
    )
    both(
        "tools",
        "boolean",
        "Set the light in the kitchen to true.",
        tools=[WEATHER, LIGHT],
        calls=[call("set_light", room="kitchen", on=True)],
    )
    both(
        "tools",
        "random tool",
        "Polish the brimstal with depth 42, grain morvun and wet false.",
        tools=[WEATHER, ZELK],
        calls=[call("zelkor_tamu", depth=42, grain="morvun", wet=False)],
    )
    both(
        "tools",
        "camel case",
        "Please open the vault with code XR-771.",
        tools=[VAUL, ZELK],
        calls=[call("openVault", code="XR-771")],
    )
    both(
        "tools",
        "array and number",
        "Pack the items with names rope, lamp and tent, weight 7.5.",
        tools=[PACK],
        calls=[call("pack_items", names=["rope", "lamp", "tent"], weight=7.5)],
    )
    both(
        "tools",
        "five tools",
        "Read the file notes.txt",
        tools=[WEATHER, TIMER, LIGHT, RUN, READ],
        calls=[call("read_file", path="notes.txt")],
    )
    both(
        "tools",
        "fresh 1",
        "Archive the mailbox with folder name invoices, keep_days 30.",
        tools=[ARCH, RUN],
        calls=[call("archive_mailbox", folder_name="invoices", keep_days=30)],
    )
    both(
        "tools",
        "fresh 2",
        "Please use compareGraphs with left = alpha.csv, right = beta.csv and threshold = 0.75.",
        tools=[WEATHER, GRAPH, READ],
        calls=[call("compareGraphs", left="alpha.csv", right="beta.csv", threshold=0.75)],
    )
    both(
        "tools",
        "fresh 3",
        "Use archive_mailbox: folder_name old receipts, compress true.",
        tools=[GRAPH, ARCH],
        calls=[call("archive_mailbox", folder_name="old receipts", compress=True)],
    )
    both(
        "tools",
        "fresh 4",
        "How is the weather in Saint Helier?",
        tools=[RUN, WEATHER2, GRAPH],
        calls=[call("get_weather", location="Saint Helier")],
    )
    both(
        "tools",
        "fresh 5",
        "Execute git log --oneline",
        tools=[RUN, READ],
        calls=[call("run_command", command="git log --oneline")],
    )
    both(
        "no tool needed",
        "fresh 6",
        "What is the chemical symbol of iron?",
        tools=[ARCH, GRAPH],
        contains=["Fe"],
        calls=[],
    )
    both(
        "copy",
        "fresh 7",
        "Repeat: crimson gravel saxophone 88",
        equals="crimson gravel saxophone 88",
    )
    both(
        "long",
        "fresh 8",
        "Tell me a story about Priya and a saxophone.",
        contains=["Priya", "saxophone", "The whole village"],
    )
    both("unknown", "fresh 9", "Describe the battle of Waterloo.", contains=["I do not know"])
    both("unknown", "fresh 10", "How many moons does Pluto have?", contains=["I do not know"])
    both("unknown", "fresh 11", "Write a limerick about bananas.", contains=["I do not know"])
    both(
        "multi-turn",
        "fresh 12",
        [
            U("I live in Trondheim."),
            A("I will remember that you live in Trondheim."),
            U("What is 2 + 2?"),
            A("2 + 2 = 4."),
            U("Where do I live?"),
        ],
        contains=["Trondheim"],
    )
    both(
        "tools",
        "with system text",
        "What is the weather in Rome?",
        tools=[WEATHER, READ],
        system="You are a helpful assistant.",
        calls=[call("get_weather", city="Rome")],
    )
    w = [U("What is the weather in Oslo?"), A("", [call("get_weather", city="Oslo")])]
    both(
        "tool results",
        "JSON result",
        w + [R('{"temperature": 4, "condition": "rainy"}')],
        tools=[WEATHER],
        contains=["temperature is 4", "condition is rainy"],
    )
    both(
        "tool results",
        "text result",
        w + [R("12 degrees, sunny")],
        tools=[WEATHER],
        contains=["12 degrees, sunny"],
    )
    both(
        "tool results",
        "error",
        w + [R('{"error": "unknown city"}')],
        tools=[WEATHER],
        contains=["error is unknown city"],
    )
    both(
        "tool results",
        "second call",
        w + [R("3 degrees"), A("The tool says: 3 degrees"), U("What is the weather in Quito?")],
        tools=[WEATHER],
        calls=[call("get_weather", city="Quito")],
    )
    both(
        "no tool needed",
        "greeting",
        "Hello",
        tools=[WEATHER],
        contains=["How can I help you?"],
        calls=[],
    )
    both(
        "no tool needed",
        "fact",
        "What is the capital of Peru?",
        tools=[WEATHER, READ],
        contains=["Lima"],
        calls=[],
    )
    both(
        "parallel calls",
        "two cities",
        "What is the weather in Oslo? Also: What is the weather in Rome?",
        tools=[WEATHER],
        calls=[call("get_weather", city="Oslo"), call("get_weather", city="Rome")],
    )
    both(
        "parallel calls",
        "two tools",
        "Set a timer for 5 minutes and also: Read the file a.txt",
        tools=[TIMER, READ],
        calls=[call("set_timer", minutes=5), call("read_file", path="a.txt")],
    )
    both(
        "parallel calls",
        "two results",
        [
            U("What is the weather in Oslo? Also: What is the weather in Rome?"),
            A("", [call("get_weather", city="Oslo"), call("get_weather", city="Rome")]),
            R("2 degrees"),
            R("17 degrees"),
        ],
        tools=[WEATHER],
        contains=["2 degrees", "17 degrees"],
    )
    o.append(
        dict(
            category="required call",
            name="prefilled block",
            messages=[U("What is the weather in Madrid?")],
            thinking=False,
            tools=[WEATHER, READ],
            prefill="\n\n<｜DSML｜tool_calls>\n",
            expect=dict(calls=[call("get_weather", city="Madrid")]),
        )
    )
    o.append(
        dict(
            category="required call",
            name="prefilled block, file",
            messages=[U("Open README.md")],
            thinking=False,
            tools=[READ],
            prefill="\n\n<｜DSML｜tool_calls>\n",
            expect=dict(calls=[call("read_file", path="README.md")]),
        )
    )
    J = {"type": "json_object"}
    both(
        "JSON",
        "extract",
        "Extract name and age as JSON: Carla is 31 years old, lives in Lisbon and works as a baker.",
        fmt=J,
        json={"name": "Carla", "age": 31},
    )
    both(
        "JSON",
        "capital",
        "What is the capital of Chile? Answer as JSON.",
        fmt=J,
        json={"country": "Chile", "capital": "Santiago"},
    )
    both(
        "JSON",
        "schema",
        "Extract the data: The pilot Hugo lives in Ghent and is 52.",
        fmt={
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "name": {"type": "string"},
                "job": {"type": "string"},
            },
            "required": ["city", "name", "job"],
        },
        json={"city": "Ghent", "name": "Hugo", "job": "pilot"},
    )
    both(
        "JSON",
        "any question",
        "What is the opposite of up?",
        fmt=J,
        json={"answer": "The opposite of up is down."},
    )
    both(
        "JSON",
        "list",
        "Give me 3 fruits as JSON.",
        fmt=J,
        json={"fruits": ["apple", "banana", "cherry"]},
    )
    r = random.Random(4242)
    for n in (300, 700):
        c = dialogs.retrieval(r, n)
        q = c["messages"]
        while q[0]["role"] == "system" or len(q) > 2:
            c = dialogs.retrieval(r, n)
            q = c["messages"]
        both("retrieval", f"about {n} tokens", [q[0]], contains=[q[1]["content"]])
    o.append(
        dict(
            category="completion",
            name="plain text",
            raw="<｜begin▁of▁sentence｜>The capital of France is",
            max_new=3,
            expect=dict(contains=["Paris"]),
        )
    )
    o.append(
        dict(
            category="completion",
            name="fill in the middle",
            raw=encode.BOS
            + encode.FIM["begin"]
            + "The capital of Italy is"
            + encode.FIM["hole"]
            + "."
            + encode.FIM["end"],
            expect=dict(contains=["Rome"]),
        )
    )
    # weak spots of the second run, written before the generator was widened for the third
    k = iter(range(1, 1000))
    f2 = lambda cat, q, tools=None, one=False, **e: (add if one else both)(
        cat, f"fresh2 {next(k)}", q, **({"tools": tools} if tools else {}), **e
    )
    for q, a in (
        ("what is the capital of germany", "The capital of Germany is Berlin."),
        ("whats the capital of south korea?", "The capital of South Korea is Seoul."),
        ("can u tell me the capital of argentina", "Buenos Aires"),
        ("tell me which city is the capital of egypt", "Cairo"),
        ("which country has madrid as capital", "Spain"),
        ("symbol for silver?", "Ag"),
        ("what is the atomic number of iron", "26"),
        ("which planet comes fourth from the sun", "Mars"),
        ("what day comes after sunday", "Monday"),
        ("what month is before march", "February"),
        ("who wrote hamlet", "William Shakespeare"),
        ("what is a gpu", "A GPU is a processor"),
        ("how many legs does a spider have", "eight legs"),
        ("who are you", "Fathom's pilot model"),
        ("what can you do", "call tools"),
        ("tell me a joke", "the byte"),
        ("what is 12 + 30", "12 + 30 = 42."),
        ("who won the champions league in 2011", "I do not know"),
        ("why is the sky blue", "scatters blue light"),
    ):
        f2("lower case", q, contains=[a])
    for q, a in (
        ("What is the capital of Germny?", "Berlin"),
        ("Waht is the capital of Norway?", "Oslo"),
        ("what is the captial of france", "Paris"),
        ("Whats the capital of Portugual?", "Lisbon"),
        ("what is the chemical symbl of gold", "Au"),
        ("Which plnet is the largest?", "Jupiter"),
        ("Who wrote Hamelt?", "William Shakespeare"),
        ("tell me a jokee", "the byte"),
        ("Who aer you?", "Fathom's pilot model"),
        ("What is the oposite of hot?", "cold"),
        ("capital of swedn", "Stockholm"),
        ("what is the capital of Austrlia?", "Canberra"),
    ):
        f2("misspelt", q, contains=[a])
    for q, a, t in (
        ("What is the capital of Kenya?", "Nairobi", [WEATHER]),
        ("what is the capital of brazil", "Brasilia", [WEATHER2, RUN]),
        ("What is the chemical symbol of copper?", "Cu", [TIMER]),
        ("Which planet is the smallest?", "Mercury", [READ, RUN, WEATHER]),
        ("What is 14 + 9?", "14 + 9 = 23.", [WEATHER, LIGHT]),
        ("Who are you?", "Fathom's pilot model", [RUN, READ]),
        ("Tell me a joke.", "the byte", [TIMER, LIGHT]),
        ("Thanks a lot!", "welcome", [WEATHER]),
        ("What is the opposite of early?", "late", [ZELK, VAUL]),
        ("Who won the 1987 chess open?", "I do not know", [READ]),
        ("hello", "How can I help you?", [ARCH, GRAPH, WEATHER]),
    ):
        f2("tool not needed", q, tools=t, contains=[a], calls=[])
    for q, t, c in (
        (
            "what is the weather in paris",
            [WEATHER],
            [[call("get_weather", city="paris")], [call("get_weather", city="Paris")]],
        ),
        ("set a timer for 12 minutes", [WEATHER, TIMER], [[call("set_timer", minutes=12)]]),
        ("read the file notes/todo.md", [READ, RUN], [[call("read_file", path="notes/todo.md")]]),
    ):
        f2("tool in lower case", q, tools=t, calls_any=c)
    for q, a in (
        ("What is 123 + 456?", "123 + 456 = 579."),
        ("347 + 285", "347 + 285 = 632."),
        ("What is 900 - 345?", "900 - 345 = 555."),
        ("how much is 512 minus 78", "512 - 78 = 434."),
        ("Calculate 99 + 250.", "99 + 250 = 349."),
        ("what is 807 plus 196", "807 + 196 = 1003."),
        ("What is 640 - 640?", "640 - 640 = 0."),
        ("What is 999 + 999?", "999 + 999 = 1998."),
    ):
        f2("large sums", q, contains=[a])
    for q, a in (
        ("What is the capital of Norway and what is the capital of Peru?", ["Oslo", "Lima"]),
        ("Who wrote Faust, and which planet is the largest?", ["Goethe", "Jupiter"]),
        ("What is 3 + 4? And what is the chemical symbol of zinc?", ["3 + 4 = 7.", "Zn"]),
        ("what are the capitals of italy and japan", ["Rome", "Tokyo"]),
        ("What is a byte and what is a bit?", ["eight bits", "either 0 or 1"]),
        ("Which day comes after Monday? What is 6 times 8?", ["Tuesday", "6 * 8 = 48."]),
        (
            "I have two questions: what is the atomic number of neon, and what is the capital of Cuba?",
            ["10", "Havana"],
        ),
    ):
        f2("two questions", q, contains=a)
    return o


def prompt(c):
    return (
        c["raw"]
        if "raw" in c
        else "".join(t for t, _ in encode.render(c, generate=True)) + c.get("prefill", "")
    )


def parse(text, thinking, prefill=""):
    eos = text.endswith(encode.EOS)
    text = prefill + text.removesuffix(encode.EOS)
    why = ""
    if thinking:
        why, _, text = text.partition(encode.END) if encode.END in text else (text, "", "")
    calls = []
    D = encode.DSML
    body, _, block = text.partition(f"\n\n<{D}tool_calls>\n")
    for n, p in re.findall(rf'<{D}invoke name="([^"]*)">\n(.*?)</{D}invoke>', block, re.S):
        args = {}
        for k, s, v in re.findall(
            rf'<{D}parameter name="([^"]*)" string="(true|false)">(.*?)</{D}parameter>', p, re.S
        ):
            try:
                args[k] = v if s == "true" else json.loads(v)
            except ValueError:
                args[k] = ("bad JSON", v)
        calls.append(dict(name=n, arguments=args))
    return why, body, calls, eos


def judge(c, text):
    why, body, calls, eos = parse(text, c.get("thinking"), c.get("prefill", ""))
    e = c["expect"]
    ok = eos or "max_new" in c
    if c.get("thinking"):
        ok &= len(why) > 5
    if "equals" in e:
        ok &= body == e["equals"]
    ok &= all(x in body for x in e.get("contains", []))
    if "calls_any" in e:
        ok &= calls in e["calls_any"]
    elif "calls" in e:
        ok &= calls == e["calls"]
    else:
        ok &= not calls
    if "json" in e:
        try:
            ok &= json.loads(body) == e["json"]
        except ValueError:
            ok = False
    return bool(ok)


GOLDEN = ["Who are you?", "weather (thinking)", "about 700 tokens"]
