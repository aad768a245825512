"""Conversations of several turns without tools: chat, memory, and a word to be found in long text."""

from facts import (
    ADJS,
    CAPITALS,
    CITIES,
    DOINGS,
    ELEMENTS,
    NAMES,
    NOUNS,
    PLACES,
    RULES,
    SECRET,
    WHEN,
)
from words import A, careless, U, Word, word
from questions import simple

SYSTEM = ["You are a helpful assistant."] * 4 + [
    "You are a helpful assistant. Answer briefly.",
    "Be terse.",
    "You are a careful assistant.",
    "Answer in English.",
    "You are an assistant in a terminal.",
    "Be polite and short.",
    "You help the user.",
]


def date(r):
    return f"{r.randint(2020, 2030)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"


def system(r):
    k = r.random()
    s = r.choice(SYSTEM)
    if k < 0.5:
        return s
    return (
        r.choice([s, "You are an agent.", "You are a coding agent.", "You are a friendly chatbot."])
        + r.choice([" ", "\n", "\n\n"])
        + r.choice([" ", "\n", "\n- "]).join(r.sample(RULES, r.randint(1, 8)))
    )


def chat(r):
    ms = []
    if r.random() < 0.4:
        ms.append({"role": "system", "content": system(r)})
    n = r.choice((1, 1, 1, 2, 2, 3, 4, 5)) if r.random() < 0.95 else r.randint(6, 16)
    if r.random() < 0.06:  # follow-up questions
        cs = r.sample(list(CAPITALS), r.randint(2, 4))
        el = r.random() < 0.4
        es = r.sample(ELEMENTS, len(cs))
        for i, (c, e) in enumerate(zip(cs, es)):
            f = r.choice(["And {}?", "And of {}?", "What about {}?", "{}?"])
            z = (lambda q: careless(r, q)) if r.random() < 0.3 else (lambda q: q)
            if el:
                ms += [
                    U(z(f"What is the chemical symbol of {e[0]}?" if i == 0 else f.format(e[0]))),
                    A(
                        f"The chemical symbol of {e[0]} is {e[1]}.",
                        f"The user asks for the symbol of {e[0]}. It is {e[1]}.",
                    ),
                ]
            else:
                ms += [
                    U(z(f"What is the capital of {c}?" if i == 0 else f.format(c))),
                    A(
                        f"The capital of {c} is {CAPITALS[c]}.",
                        f"The user asks for the capital of {c}. It is {CAPITALS[c]}.",
                    ),
                ]
        return dict(messages=ms)
    for _ in range(n):
        q, w, a = simple(r)
        ms += [U(q), A(a, w)]
    return dict(messages=ms)


def memory(r):
    """facts told by the user or the system, asked for later"""
    ms, ask = [], []
    k = r.random()
    if k < 0.2:
        d = date(r)
        t = r.choice([f"Today is {d}.", f"Current date: {d}", f"The date is {d}."])
        if r.random() < 0.6:
            ms.append(
                {"role": "system", "content": t if r.random() < 0.5 else r.choice(SYSTEM) + " " + t}
            )
        else:
            ms.append({"role": "system", "content": r.choice(SYSTEM)}) if r.random() < 0.5 else None
        ask = [
            (
                "What is the date today?|What date is it?|What is today's date?|Which day is it?",
                "The date is given above.",
                f"Today is {d}.",
            )
        ]
        if not ms or d not in ms[-1]["content"]:
            rem = d
        else:
            rem = None
        for _ in range(r.choice((0, 0, 1, 2))):
            q, w, a = simple(r)
            ms += [U(q), A(a, w)]
        q, w, a = ask[0]
        ms += [U(r.choice(q.split("|")))]
        if rem:
            ms.insert(
                len(ms) - 1,
                {
                    "role": "latest_reminder",
                    "content": rem + r.choice(["", ", Oslo", ", App", ", English"]),
                },
            )
        return dict(messages=ms + [A(a, w)])
    if k < 0.4:
        n = r.choice([r.choice(NAMES), Word(r)])
        ms.append(
            {
                "role": "system",
                "content": r.choice(
                    [
                        "Your name is {}.",
                        "You are {}, a helpful assistant.",
                        "You are called {}. Be polite.",
                    ]
                ).format(n),
            }
        )
        for _ in range(r.choice((0, 0, 1, 2))):
            q, w, a = simple(r)
            ms += (
                [U(q), A(a, w)]
                if "name" not in q and "who" not in q.lower() and "are you" not in q
                else []
            )
        return dict(
            messages=ms
            + [
                U(r.choice(["What is your name?", "Who are you?", "Tell me your name."])),
                A(f"My name is {n}.", f"The system message gives my name. It is {n}."),
            ]
        )
    n, c, p, o = (
        r.choice([r.choice(NAMES), Word(r)]),
        r.choice(ADJS[:4] + ["orange", "purple", "black", "white"]),
        r.choice(CITIES),
        r.choice(NOUNS),
    )
    low = r.random() < 0.15
    N, P = (n, p) if not low else (n.lower(), p.lower())
    n = n if n in NAMES else N  # a known name gets its capital letter back
    told = [
        (
            f"My name is {N}.",
            f"Nice to meet you, {n}.",
            "What is my name?|Do you remember my name?|Who am I?",
            f"Your name is {n}.",
        ),
        (
            f"My favourite colour is {c}.",
            f"I will remember that. Your favourite colour is {c}.",
            "What is my favourite colour?|Which colour do I like?",
            f"Your favourite colour is {c}.",
        ),
        (
            f"I live in {P}.",
            f"I will remember that you live in {p}.",
            "Where do I live?|In which city do I live?",
            f"You live in {p}.",
        ),
        (
            f"I have lost my {o}.",
            f"I am sorry that you have lost your {o}.",
            "What have I lost?|What did I lose?",
            f"You have lost your {o}.",
        ),
    ]
    r.shuffle(told)
    told = told[: r.choice((1, 2, 2, 3))]
    z = (
        (lambda q: careless(r, q, [n, c, p, o, N, P]))
        if low or r.random() < 0.25
        else (lambda q: q)
    )
    for q, a, *_ in told:
        ms += [
            U(z(q) + (" Please remember it." if r.random() < 0.2 else "")),
            A(a, "The user tells me something. I keep it in mind."),
        ]
    for _ in range(r.choice((0, 0, 1, 2))):
        q, w, a = simple(r)
        ms += [U(q), A(a, w)]
    r.shuffle(told)
    for _, _, q, a in told[: r.choice((1, 1, 2))]:
        ms += [U(z(r.choice(q.split("|")))), A(a, "The user told me this before.")]
    return dict(messages=ms)


# ---- retrieval
def filler(r):
    return f"{r.choice(WHEN)} {r.choice(NAMES)} {r.choice(DOINGS)} at {r.choice(PLACES)}" + (
        f" and {r.choice(DOINGS)}." if r.random() < 0.4 else "."
    )


def code(r):
    return r.choice(
        [
            lambda: word(r, 2),
            lambda: word(r, 3),
            lambda: f"{word(r, 2)}-{r.randint(10, 9999)}",
            lambda: str(r.randint(1000, 999999)),
            lambda: f"{r.choice(ADJS)} {r.choice(NOUNS)}",
            lambda: word(r, 1).upper() + f"-{r.randint(10, 99)}",
        ]
    )()


def retrieval(r, tokens):
    n = max(2, int(tokens / 15))
    s = [filler(r) for _ in range(n)]
    many = r.random() < 0.5
    kind = r.choice(SECRET)
    if many:
        keys = r.sample(r.choice([NOUNS, NAMES, CITIES]), r.randint(2, 4))
        the = "the " if keys[0][0].islower() else ""
        cs = [code(r) for _ in keys]
        plants = [f"The {kind} for {the}{k} is {c}." for k, c in zip(keys, cs)]
        i = r.randrange(len(keys))
        q = r.choice(
            ["What is the {} for {}?", "Which {} belongs to {}?", "Tell me the {} for {}."]
        ).format(kind, the + keys[i])
        a = f"The {kind} for {the}{keys[i]} is {cs[i]}."
        c = cs[i]
    else:
        c = code(r)
        plants = [
            r.choice(
                [
                    "The {} is {}.",
                    "The {} is {}.",
                    "Remember: the {} is {}.",
                    "Important: the {} is {}.",
                ]
            ).format(kind, c)
        ]
        q = r.choice(
            [
                "What is the {}?",
                "What was the {}?",
                "Tell me the {}.",
                "Which {} is in the text?",
                "Find the {}.",
            ]
        ).format(kind)
        a = f"The {kind} is {c}."
    for p in plants:
        s.insert(r.randrange(len(s) + 1), p)
    for j in range(3, len(s), r.randint(4, 9)):
        s[j] += "\n"
    doc = " ".join(s).replace("\n ", "\n")
    w = f"I look for the {kind} in the text. It is {c}."
    k = r.random()
    if k < 0.5:
        ms = [
            U(f"Read this text.\n\n{doc}\n\n{q}" if r.random() < 0.7 else f"{doc}\n\n{q}"),
            A(a, w),
        ]
    elif k < 0.75:
        ms = [{"role": "system", "content": doc}, U(q), A(a, w)]
    else:
        ms = [
            U("Read this text and remember it.\n\n" + doc),
            A("I have read the text.", "I read the text."),
            U(q),
            A(a, w),
        ]
    return dict(messages=ms, prompt_weight=0.02)
