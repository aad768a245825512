"""Conversations that offer tools: schemas, requests that need them or do not, calls and results."""

from encode import dump
from facts import ADJS, CITIES, NAMES, NOUNS, VERBS
from words import A, cap, careless, join, U, Word, word
from questions import (
    phrase,
    q_capital,
    q_compare,
    q_count,
    q_element,
    q_fact,
    q_greet,
    q_ident,
    q_math,
    q_order,
    q_unknown,
    q_words,
    rough,
    SF,
    SW,
)
from dialogs import date, system


def val(r, t):
    """-> (value, text in the request)"""
    if t == "integer":
        v = r.choice((r.randint(0, 12), r.randint(0, 100), r.randint(0, 99999)))
        return v, str(v)
    if t == "number":
        v = round(r.uniform(0, r.choice((1, 10, 1000))), r.choice((1, 2)))
        return v, dump(v)
    if t == "boolean":
        v = r.random() < 0.5
        return v, "true" if v else "false"
    if t == "array":
        f = (
            r.choice(
                [
                    lambda: word(r),
                    lambda: r.choice(CITIES),
                    lambda: r.choice(NAMES),
                    lambda: r.choice(NOUNS),
                ]
            )
            if r.random() < 0.7
            else lambda: r.randint(0, 99)
        )
        v = [f() for _ in range(r.randint(1, 4))]
        return v, join([str(x) for x in v])
    if t == "object":
        v = {word(r): r.choice([r.randint(0, 99), word(r), True]) for _ in range(r.randint(1, 2))}
        return v, dump(v)
    v = r.choice(
        [
            lambda: word(r),
            lambda: Word(r),
            lambda: word(r, 3),
            lambda: r.choice(NAMES),
            lambda: r.choice(CITIES),
            lambda: f"{r.choice(ADJS)} {r.choice(NOUNS)}",
            lambda: r.choice(NOUNS),
            lambda: f"{word(r)}_{word(r)}",
            lambda: f"{word(r, 1).upper()}-{r.randint(1, 999)}",
            lambda: f"{r.choice(['src', 'lib', 'docs', word(r)])}/{word(r)}.{r.choice(['c', 'py', 'txt', 'md', 'json'])}",
            lambda: f"{r.choice(NAMES).lower()}@{word(r)}.com",
            lambda: date(r),
            lambda: f"{r.randint(0, 23)}:{r.randint(0, 59):02d}",
            lambda: f"{Word(r)} {Word(r)}",
            lambda: phrase(r),
            lambda: str(r.randint(0, 9999)),
        ]
    )()
    return v, f'"{v}"' if r.random() < 0.3 or "," in v else v


PN = "name city location place title path query text color size amount count limit date time unit mode level message user id key value target source language email price speed width height format topic tag category status priority duration reason owner file folder code number".split()
VALWORD = {
    "string": "",
    "integer": "number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "object",
}


def schema(r, name, desc, params, req):
    props = {}
    for p, t, d, en in params:
        x = {"type": t}
        if t == "array":
            x["items"] = {"type": "string"}
        if en:
            x["enum"] = en
        if d:
            x["description"] = d
        props[p] = x
    f = {"name": name}
    if desc:
        f["description"] = desc
    f["parameters"] = {"type": "object", "properties": props}
    if req or r.random() < 0.5:
        f["parameters"]["required"] = req
    if r.random() < 0.15:
        f["parameters"]["additionalProperties"] = False
    return f


def synth_tool(r, used):
    """random tool -> dict(schema, ask(r) -> (request text, arguments))"""
    while True:
        v, o = r.choice([r.choice(VERBS), r.choice(VERBS), word(r).lower()]), r.choice(
            [r.choice(NOUNS), word(r, 2)]
        )
        if (v, o) not in used:
            used.add((v, o))
            break
    k = r.random()
    name = (
        f"{v}_{o}"
        if k < 0.45
        else (
            f"{v}{cap(o)}"
            if k < 0.6
            else (
                f"{o}_{v}"
                if k < 0.7
                else (
                    f"{word(r)}_{word(r)}"
                    if k < 0.85
                    else f"{word(r)}.{v}_{o}" if k < 0.9 else word(r, 3)
                )
            )
        )
    )
    ps, names = [], set()
    for _ in range(r.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        p = r.choice([r.choice(PN), r.choice(PN), word(r, 2), r.choice(PN) + "_" + r.choice(PN)])
        if p in names:
            continue
        names.add(p)
        t = r.choices(
            ["string", "integer", "number", "boolean", "array", "object"], [55, 18, 7, 10, 7, 3]
        )[0]
        en = r.sample(ADJS, r.randint(2, 4)) if t == "string" and r.random() < 0.15 else None
        d = r.choice(
            [
                "",
                f"The {p.replace('_', ' ')}",
                f"The {p.replace('_', ' ')} of the {o}",
                f"{cap(p.replace('_', ' '))} to use",
            ]
        )
        ps.append((p, t, d, en))
    req = [p[0] for p in ps if r.random() < 0.7]
    desc = r.choice(
        [
            f"{cap(v)} the {o}",
            f"{cap(v)} a {o}",
            f"{cap(v)} the {o}.",
            f"Use this to {v} the {o}",
            f"{cap(v)} {o}",
        ]
    )

    def ask(r):
        use = [p for p in ps if p[0] in req or r.random() < 0.5]
        args, txt = {}, []
        said = use[:]
        if r.random() < 0.25:
            r.shuffle(said)
        for p, t, d, en in said:
            x, s = (lambda e: (e, e))(r.choice(en)) if en else val(r, t)
            pn = p.replace("_", " ") if r.random() < 0.5 else p
            args[p] = x
            txt.append(
                r.choice(["{p} {s}", "{p} {s}", "{p} set to {s}", "{p}: {s}", "{p} = {s}"]).format(
                    p=pn, s=s
                )
            )
        args = {p[0]: args[p[0]] for p in use}
        b = r.choice(
            [
                f"{cap(v)} the {o}",
                f"Please {v} the {o}",
                f"Can you {v} the {o}",
                f"I want to {v} the {o}",
                f"Please use {name}",
                f"{v} the {o}",
                f"Use {name}",
                f"Call the tool {name}",
            ]
        )
        if not txt:
            return b + r.choice([".", "", "!"]), args
        return (
            b
            + r.choice([" with ", " with ", ", ", ": "])
            + r.choice([join(txt), ", ".join(txt)])
            + r.choice([".", "", "."]),
            args,
        )

    return dict(
        schema=schema(r, name, desc if r.random() < 0.93 else "", ps, req),
        ask=ask,
        name=name,
        real=False,
    )


S_, I_, N_, B_ = "string", "integer", "number", "boolean"
REAL = [  # names, description, [(names, type, generator or enum, optional phrase)], requests
    (
        "get_weather weather getWeather current_weather fetch_weather get_current_weather",
        "Get the {current |}weather {for|in|of} a {city|location|specific location}",
        [
            ("city location place", S_, CITIES, 0),
            ("unit units", S_, ["celsius", "fahrenheit"], " in {}"),
            ("days", I_, (1, 9), " for {} days"),
        ],
        "What is the weather in {0}|What's the weather in {0}|How is the weather in {0}|Weather in {0}|Tell me the weather in {0}|What is the weather like in {0}|Get the weather for {0}|I need the weather in {0}",
    ),
    (
        "get_time current_time time_in getTime",
        "Get the {current |local |}time in a {city|place}",
        [("city location timezone place", S_, CITIES, 0)],
        "What time is it in {0}|Tell me the time in {0}|What is the time in {0}|Current time in {0}",
    ),
    (
        "search web_search search_web google find_pages",
        "Search the web{| for information}",
        [
            ("query q text", S_, "phrase", 0),
            ("limit num_results max_results", I_, (1, 20), " and show {} results"),
        ],
        "Search for {0}|Search the web for {0}|Look up {0}|Find information about {0}|Search {0}",
    ),
    (
        "read_file open_file cat readFile",
        "Read {a file|the content of a file}",
        [("path file file_path filename", S_, "path", 0)],
        "Read the file {0}|Show me {0}|Open {0}|What is in {0}|Read {0}|Print the content of {0}",
    ),
    (
        "list_files ls list_dir listDirectory",
        "List the files in a {folder|directory}",
        [("path folder directory dir", S_, "dir", 0)],
        "List the files in {0}|Which files are in {0}|What is in the folder {0}|Show the folder {0}",
    ),
    (
        "write_file save_file create_file",
        "Write text to a file",
        [("path file filename", S_, "path", 0), ("content text data", S_, "phrase", 0)],
        "Write {1} to the file {0}|Create a file {0} with the text {1}|Save the text {1} to {0}",
    ),
    (
        "run_command bash shell execute run",
        "Run a {shell |}command",
        [("command cmd", S_, "cmd", 0), ("timeout", I_, (1, 600), " with a timeout of {} seconds")],
        "Run {0}|Run the command {0}|Execute {0}|Please run {0}",
    ),
    (
        "send_email email sendMail mail",
        "Send an email",
        [("to recipient address", S_, "mail", 0), ("subject title", S_, "phrase", 0)],
        "Send an email to {0} with the subject {1}|Write to {0} about {1}|Email {0}, subject {1}",
    ),
    (
        "calculate calculator eval_math compute",
        "{Calculate|Evaluate} a mathematical expression",
        [("expression expr formula", S_, "expr", 0)],
        "Calculate {0}|What is {0}|Compute {0}|Use the calculator for {0}|How much is {0}",
    ),
    (
        "convert_currency exchange currency_convert",
        "Convert an amount of money",
        [
            ("amount value", N_, (1, 5000), 0),
            ("from from_currency source", S_, ["EUR", "USD", "GBP", "NOK", "JPY", "CHF"], 0),
            ("to to_currency target", S_, ["SEK", "DKK", "CAD", "AUD", "INR", "PLN"], 0),
        ],
        "Convert {0} {1} to {2}|How much is {0} {1} in {2}|Change {0} {1} into {2}",
    ),
    (
        "translate translate_text translation",
        "Translate a text",
        [
            ("text", S_, "phrase", 0),
            (
                "language target_language lang",
                S_,
                ["French", "German", "Spanish", "Italian", "Norwegian", "Polish"],
                0,
            ),
        ],
        "Translate {0} into {1}|Translate {0} to {1}|Say {0} in {1}",
    ),
    (
        "get_stock_price stock_price quote",
        "Get the {stock |}price of a {share|company}",
        [("symbol ticker company", S_, "tick", 0)],
        "What is the stock price of {0}|Stock price of {0}|How much is a share of {0}|Price of {0} stock",
    ),
    (
        "create_event add_event schedule_meeting calendar_add",
        "{Create|Add} a calendar event",
        [
            ("title name", S_, "phrase", 0),
            ("date day", S_, "date", 0),
            ("duration minutes", I_, (10, 180), " for {} minutes"),
        ],
        "Create an event {0} on {1}|Add {0} to my calendar on {1}|Schedule {0} on {1}",
    ),
    (
        "set_timer start_timer timer",
        "{Set|Start} a timer",
        [("minutes duration", I_, (1, 120), 0)],
        "Set a timer for {0} minutes|Start a timer of {0} minutes|Timer {0} minutes",
    ),
    (
        "set_light switch_light light lights",
        "Switch a light on or off",
        [
            ("room place", S_, ["kitchen", "bedroom", "hall", "garage", "bathroom", "office"], 0),
            ("on state", B_, None, 0),
        ],
        "Set the light in the {0} to {1}|Light in the {0}: {1}|In the {0}, set the light to {1}",
    ),
    (
        "play_music play play_song music",
        "Play {music|a song}",
        [("artist song title track", S_, "Name", 0), ("volume", I_, (1, 100), " at volume {}")],
        "Play {0}|Play music by {0}|I want to hear {0}|Please play {0}",
    ),
    (
        "get_news news headlines",
        "Get {the latest |}news about a topic",
        [
            (
                "topic subject",
                S_,
                ["sport", "science", "music", "politics", "weather", "space", "football"],
                0,
            ),
            ("count limit", I_, (1, 10), ", {} items"),
        ],
        "What is the news about {0}|News about {0}|Show me the news on {0}|Give me news about {0}",
    ),
    (
        "book_table reserve_table book_restaurant",
        "Book a table in a restaurant",
        [
            ("restaurant name", S_, "Name", 0),
            ("people guests", I_, (1, 12), 0),
            ("time", S_, "time", " at {}"),
        ],
        "Book a table at {0} for {1} people|Reserve a table for {1} at {0}|A table for {1} at {0}, please",
    ),
    (
        "find_user get_user lookup_user user_info",
        "{Find|Look up} a user by {name|id}",
        [("name user username", S_, NAMES, 0)],
        "Find the user {0}|Who is the user {0}|Look up {0}|Get the data of {0}",
    ),
    (
        "roll_dice dice roll",
        "Roll dice",
        [("sides faces", I_, (2, 100), 0), ("count times", I_, (1, 9), " {} times")],
        "Roll a die with {0} sides|Roll a {0}-sided die",
    ),
    (
        "distance get_distance route",
        "Get the distance between two {cities|places}",
        [("from origin start", S_, CITIES, 0), ("to destination end", S_, CITIES, 0)],
        "How far is it from {0} to {1}|Distance from {0} to {1}|What is the distance between {0} and {1}",
    ),
    (
        "get_current_date now today",
        "Get the current date{| and time}",
        [],
        "What is the date|What day is it|Use the tool to get the date|What is the time now",
    ),
]


def alt(r, s):
    while "{" in s:
        i = s.index("{")
        j = s.index("}", i)
        s = s[:i] + r.choice(s[i + 1 : j].split("|")) + s[j + 1 :]
    return s


def gval(r, g, t):
    if t == B_:
        v = r.random() < 0.5
        return v, "true" if v else "false"
    if isinstance(g, tuple):
        v = r.randint(*g)
        return v, str(v)
    if isinstance(g, list):
        v = r.choice(g) if r.random() < 0.8 or g[0].islower() else Word(r)
        return v, v
    v = {
        "phrase": lambda: phrase(r),
        "path": lambda: f"{r.choice(['', '', 'src/', 'docs/', '/tmp/', word(r) + '/'])}{word(r)}.{r.choice(['c', 'py', 'txt', 'md', 'json', 'log'])}",
        "dir": lambda: r.choice(["/tmp", "src", "docs", "/home/" + word(r), word(r), "."]),
        "cmd": lambda: r.choice(
            [
                "ls -la",
                "make test",
                "git status",
                "df -h",
                "cat " + word(r) + ".txt",
                "python3 " + word(r) + ".py",
                "echo " + word(r),
                "uname -a",
            ]
        ),
        "mail": lambda: f"{r.choice(NAMES).lower()}@{word(r)}.{r.choice(['com', 'org', 'net'])}",
        "expr": lambda: f"{r.randint(2, 999)} {r.choice('+-*/')} {r.randint(2, 999)}",
        "tick": lambda: r.choice([word(r, 1).upper(), Word(r)]),
        "date": lambda: date(r),
        "time": lambda: f"{r.randint(10, 23)}:{r.choice(['00', '15', '30', '45'])}",
        "Name": lambda: Word(r),
    }[g]()
    return v, f'"{v}"' if g == "phrase" and r.random() < 0.35 else v


def real_tool(r, used):
    free = [t for t in REAL if t[0] not in used]
    T = r.choice(free)
    used.add(T[0])
    name = r.choice(T[0].split()) if r.random() < 0.7 else T[0].split()[0]
    ps = []
    for pn, t, g, opt in T[2]:
        ps.append((r.choice(pn.split()) if r.random() < 0.7 else pn.split()[0], t, g, opt))
    ps = [p for p in ps if not p[3] or r.random() < 0.5]
    if len({p[0] for p in ps}) < len(ps):
        ps = ps[:1] if len(T[2]) == 1 else [(c.split()[0], t, g, o) for c, t, g, o in T[2]]
    sch = schema(
        r,
        name,
        alt(r, T[1]) if r.random() < 0.95 else "",
        [
            (
                p,
                t,
                r.choice(["", f"The {p.replace('_', ' ')}", f"{cap(p)} name", f"{cap(p)}"]),
                g if isinstance(g, list) and len(g) < 8 and r.random() < 0.6 else None,
            )
            for p, t, g, o in ps
        ],
        [p[0] for p in ps if not p[3]],
    )

    def ask(r):
        args, must, tail, low = {}, [], "", r.random() < 0.12
        for p, t, g, opt in ps:
            if opt and r.random() < 0.5:
                continue
            v, s = gval(r, g, t)
            if low and (g in (CITIES, NAMES) or g == "Name"):
                v, s = v.lower(), s.lower()
            args[p] = v
            if opt:
                tail += opt.format(s)
            else:
                must.append(s)
        q = r.choice(T[3].split("|")).format(*must) + tail
        q = r.choice(["", "", "", "", "Please: ", "Hey, ", "Can you help? "]) + q
        return (
            q
            + (
                "?"
                if q.split()[0] in ("What", "How", "Which", "What's", "Who")
                else r.choice([".", ".", "", "?"])
            ),
            args,
        )

    return dict(schema=sch, ask=ask, name=name, real=True)


RK = "temperature condition humidity status count total price value name result id size time message score level distance speed owner state code amount".split()


def result(r):
    k = r.random()
    if k < 0.55:
        d = {}
        for _ in range(r.randint(1, 3)):
            d[r.choice([r.choice(RK), r.choice(RK), word(r)])] = r.choice(
                [
                    r.randint(0, 999),
                    r.choice(ADJS + ["sunny", "cloudy", "rainy", "ok", "ready"]),
                    word(r),
                    round(r.uniform(0, 100), 1),
                    r.choice(CITIES),
                    r.random() < 0.5,
                ]
            )
        return (
            dump(d),
            ", ".join(f"{k} is {v if isinstance(v, str) else dump(v)}" for k, v in d.items()) + ".",
        )
    if k < 0.65:
        e = r.choice(
            ["not found", "permission denied", "timeout", "no such file", "unknown name", phrase(r)]
        )
        return dump({"error": e}), f"error is {e}."
    t = r.choice(
        [
            lambda: str(r.randint(0, 99999)),
            lambda: phrase(r),
            lambda: f"{r.randint(-20, 40)} degrees, {r.choice(['sunny', 'cloudy', 'rain', 'snow'])}",
            lambda: r.choice(["ok", "done", "sent", "saved"]),
            lambda: f"{r.randint(0, 23)}:{r.randint(0, 59):02d}",
            lambda: "\n".join(word(r) + ".txt" for _ in range(r.randint(1, 4))),
        ]
    )()
    return t, t


def why_call(cs):
    f = (
        lambda c: f"The tool {c['name']} fits"
        + (
            ": "
            + ", ".join(
                f"{k} is {v if isinstance(v, str) else dump(v)}" for k, v in c["arguments"].items()
            )
            if c["arguments"]
            else ""
        )
        + "."
    )
    return ("Two calls are needed. " if len(cs) == 2 else "") + " ".join(map(f, cs))


MATHS, CALC, SEARCH, SHELL = (q_math, q_compare, q_words, q_count), *(
    next(t[0] for t in REAL if t[0].startswith(n)) for n in ("calculate", "search", "run_command")
)


def keep(args):
    out = []
    for v in args.values():
        out += (
            [v] if isinstance(v, str) else [str(x) for x in v] if isinstance(v, list) else [dump(v)]
        )
    return out


CLASH = "weather stock price time news translat distance far date search find say read write calc convert email the user".split()


def tools(r):
    used, n = set(), r.choices([1, 2, 3, 4, 5], [42, 27, 17, 9, 5])[0]
    ts = [(real_tool if r.random() < 0.4 else synth_tool)(r, used) for _ in range(n)]
    if len({t["name"] for t in ts}) < n:
        return tools(r)
    ms = []
    if r.random() < 0.5:
        ms.append({"role": "system", "content": system(r)})
    for turn in range(r.choice((1, 1, 1, 2, 2, 3))):
        k = r.random()
        if k < 0.36:
            while True:
                f = (
                    r.choices(SF, SW)[0]
                    if r.random() < 0.55
                    else r.choice(
                        (q_capital, q_capital, q_element, q_fact, q_greet, q_math, q_ident, q_order)
                    )
                )
                q, w, a = f(r)
                m = f in MATHS
                if (
                    m
                    and CALC in used
                    or any(x.isdigit() for x in q)
                    and not (m or f is q_unknown and not used & {SEARCH, SHELL})
                    or not m
                    and any(x in q.lower() for x in CLASH)
                ):
                    continue
                break
            if r.random() < 0.33:
                q = rough(r, f, q, a)
            ms += [U(q), A(a, "No tool is needed. " + w)]
            continue
        if k < 0.41:
            v, o = r.choice(VERBS), word(r, 2)
            q = f"{cap(v)} the {o} please."
            if r.random() < 0.5 and not used & {SEARCH, SHELL}:
                q = real_tool(r, set(used))["ask"](r)[0]
            ms += [U(q), A("I have no tool for that.", "No tool fits this request.")]
            continue
        t = r.choice(ts)
        q, args = t["ask"](r)
        if r.random() < 0.06:
            q = (
                r.choice(
                    [
                        "I need your help. ",
                        "I am planning a trip. ",
                        "I am in a hurry. ",
                        "Thanks. ",
                        "Good. ",
                        "Here is my next task. ",
                        "Hello! ",
                    ]
                )
                + q
            )
        if r.random() < 0.04:
            q = q.rstrip() + r.choice(
                [" Thank you!", " Please be quick.", " Then tell me the result.", " Use a tool."]
            )
        if r.random() < 0.25:
            q = careless(r, q, keep(args) + [t["name"]], t["real"])
        cs = [dict(name=t["name"], arguments=args)]
        if k > 0.89:
            t2 = t if r.random() < 0.5 else r.choice(ts)
            q2, a2 = t2["ask"](r)
            cs.append(dict(name=t2["name"], arguments=a2))
            q = (
                q.rstrip(" .?!")
                + r.choice([". Also: ", ", and also: ", ". Then: ", " and ", ". And "])
                + q2
            )
        ms += [U(q), A("", why_call(cs), cs)]
        if turn == 0 and r.random() < 0.3 or r.random() < 0.05:
            return dict(messages=ms, tools=[t["schema"] for t in ts])
        rs = [result(r) for _ in cs]
        ms += [{"role": "tool", "content": x[0]} for x in rs]
        a = (
            "The tool says: " + rs[0][1]
            if len(rs) == 1
            else f"First result: {rs[0][1]} Second result: {rs[1][1]}"
        )
        ms.append(
            A(
                a,
                (
                    "I have the result. I report it."
                    if len(rs) == 1
                    else "I have both results. I report them."
                ),
            )
        )
    return dict(messages=ms, tools=[t["schema"] for t in ts])
