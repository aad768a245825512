"""Single questions with their reasoning and answer; simple() draws one of all of them."""

import re

from facts import (
    ADJS,
    CAPITALS,
    CITIES,
    DAYS,
    DECLINE,
    DOINGS,
    ELEMENTS,
    GREET,
    HAIKU,
    IDENT,
    JOKES,
    LISTS,
    MONTHS,
    NAMES,
    NOUNS,
    ORDINAL,
    OUTSIDE,
    PLACES,
    PLANETS,
    QA,
    THINGS,
    UNKNOWN,
    WORDS,
)
from words import cap, careless, join, PIECES, strange, Word, word


def rough(r, f, q, a):
    if f is q_echo:
        return careless(r, q, [a]) if a in q else q[0].lower() + q[1:]
    if f is q_words:
        return careless(r, q, (), False)
    if f is q_text and "story" in q.lower():
        return careless(
            r,
            q,
            [
                w
                for w in re.findall(r"[\w-]+", q)
                if w
                not in "Tell tell me a story about and Write write short who finds long".split()
            ],
        )
    return careless(r, q)


def q_capital(r):
    c = r.choice(list(CAPITALS))
    k = CAPITALS[c]
    a = f"The capital of {c} is {k}."
    if r.random() < 0.2:
        return (
            (
                r.choice(
                    [
                        f"{k} is the capital of which country?",
                        f"Which country has the capital {k}?",
                        f"{k} is the capital of what country?",
                        f"Of which country is {k} the capital?",
                    ]
                )
                if k != "London"
                else "London is the capital of which country?"
            ),
            f"The user asks for the country of {k}.",
            f"{k} is the capital of {c if k != 'London' else 'the United Kingdom'}.",
        )
    q = r.choice(
        ["What is the capital of {}?"] * 4
        + [
            "What's the capital of {}?",
            "Which city is the capital of {}?",
            "Tell me the capital of {}.",
            "Name the capital of {}.",
            "capital of {}",
            "Do you know the capital of {}?",
            "{}: what is its capital?",
            "{} capital",
            "What is the capital city of {}?",
            "Can you tell me the capital of {}?",
            "I want to know the capital of {}.",
            "What is the capital of {}, please?",
        ]
    ).format(c)
    return cap(q), f"The user asks for the capital of {c}. It is {k}.", a


def q_element(r):
    n, s, z = r.choice(ELEMENTS)
    k = r.random()
    if k < 0.5:
        return (
            r.choice(
                [
                    "What is the chemical symbol of {}?",
                    "What is the symbol for {}?",
                    "What is the chemical symbol for {}?",
                    "Symbol of {}?",
                    "Tell me the symbol of {}.",
                    "What symbol does {} have?",
                ]
            ).format(n),
            f"The user asks for the symbol of {n}. It is {s}.",
            f"The chemical symbol of {n} is {s}.",
        )
    if k < 0.75:
        return (
            r.choice(
                [
                    "Which element has the symbol {}?",
                    "What element is {}?",
                    "What does the symbol {} stand for?",
                ]
            ).format(s),
            f"The user asks which element {s} is. It is {n}.",
            f"{s} is the symbol of {n}.",
        )
    return (
        r.choice(["What is the atomic number of {}?", "Which atomic number does {} have?"]).format(
            n
        ),
        f"The user asks for the atomic number of {n}. It is {z}.",
        f"The atomic number of {n} is {z}.",
    )


def q_order(r):
    k = r.random()
    if k < 0.4:
        i = r.randrange(8)
        if r.random() < 0.5:
            return (
                f"Which planet is the {ORDINAL[i]} from the Sun?",
                f"I count the planets to the {ORDINAL[i]}. It is {PLANETS[i]}.",
                f"{PLANETS[i]} is the {ORDINAL[i]} planet from the Sun.",
            )
        return (
            f"What is {PLANETS[i]}?" if PLANETS[i] != "Earth" else "What is the Earth?",
            f"The user asks about {PLANETS[i]}. It is a planet.",
            f"{PLANETS[i]} is the {ORDINAL[i]} planet from the Sun.",
        )
    if k < 0.5:
        return (
            r.choice(
                [
                    "List the planets.",
                    "Name the planets of the solar system.",
                    "What are the planets?",
                ]
            ),
            "The user wants the planets. There are eight.",
            "The planets are " + join(PLANETS) + ".",
        )
    L = DAYS if r.random() < 0.5 else MONTHS
    i = r.randrange(len(L))
    n = "day" if L is DAYS else "month"
    if r.random() < 0.5:
        return (
            f"Which {n} comes after {L[i]}?",
            f"After {L[i]} comes {L[(i+1) % len(L)]}.",
            f"{L[(i+1) % len(L)]} comes after {L[i]}.",
        )
    if r.random() < 0.7:
        return (
            f"Which {n} comes before {L[i]}?",
            f"Before {L[i]} comes {L[i-1]}.",
            f"{L[i-1]} comes before {L[i]}.",
        )
    return (
        r.choice(
            [
                f"List the {n}s.",
                f"Name all {n}s.",
                (
                    "What are the days of the week?"
                    if L is DAYS
                    else "What are the months of the year?"
                ),
            ]
        ),
        f"The user wants the {n}s.",
        "The %s are %s." % ("days of the week" if L is DAYS else "months of the year", join(L)),
    )


def q_fact(r):
    a, b, t = r.choice(QA)
    q = a if r.random() < 0.5 else b
    if a.startswith("What is ") and r.random() < 0.45:
        x = a[8:-1]
        q = r.choice(
            [
                "What's {x}?",
                "Tell me what {x} is.",
                "Explain what {x} is.",
                "Do you know what {x} is?",
                "Can you tell me what {x} is?",
                "{x}",
                "{x}?",
                "Describe {x}.",
                "what is {x}",
            ]
        ).format(x=x)
    return q, f"The question is: {q.rstrip('?.')}. I know the answer.", t


def q_ident(r):
    q, a, w = r.choice(IDENT[:2] if r.random() < 0.7 else IDENT)
    return r.choice(q.split("|")), w, a


def q_greet(r):
    q, a, w = r.choice(GREET[:1] if r.random() < 0.4 else GREET)
    return r.choice(q.split("|")), w, a


def q_unknown(r):
    if r.random() < 0.12:
        return (
            r.choice(
                [
                    "What is the capital of {}?",
                    "What is the capital of {}?",
                    "capital of {}",
                    "What is the symbol of {}?",
                    "Who wrote {}?",
                    "What is {}?",
                ]
            ).format(r.choice([strange(r).capitalize(), strange(r)])),
            "I do not have this fact. I should say so.",
            DECLINE,
        )
    if r.random() < 0.35:
        return r.choice(OUTSIDE), "I do not have this fact. I should say so.", DECLINE
    if r.random() < 0.1:
        return (
            " ".join(word(r) for _ in range(r.randint(1, 8))) + r.choice(["", "?", "."]),
            "I do not understand this. I should say so.",
            DECLINE,
        )
    Cap = lambda: strange(r).capitalize()
    q = r.choice(UNKNOWN).format(
        y=r.randint(1800, 2025),
        P=Cap(),
        Q=Cap(),
        N=r.choice([r.choice(NAMES), Cap()]) + " " + Cap(),
        w=r.choice([r.choice(NOUNS), strange(r)]),
        p=strange(r),
    )
    return q, "I do not have this fact. I should say so.", DECLINE


def q_math(r):
    k = r.random()
    if (
        r.random() < 0.45
    ):  # above 99: in steps, which stand in the reasoning or, without thinking, in the answer (see conversation)
        a, b = r.randint(0, 999), r.choice((r.randint(0, 999), r.randint(0, 999), r.randint(0, 99)))
        a, b = (max(a, b), min(a, b)) if k > 0.5 or r.random() < 0.3 else (a, b)
        op, nm = ("+", "plus") if k < 0.5 else ("-", "minus")
        sg = 1 if k < 0.5 else -1
        c = a + sg * b
        x, st = a, []
        for d in (b // 100 * 100, b // 10 % 10 * 10, b % 10):
            if d:
                st.append(f"{x} {op} {d} = {x + sg * d}")
                x += sg * d
        q = r.choice(
            ["What is {a} {op} {b}?"] * 3
            + [
                "{a} {op} {b}",
                "{a}{op}{b}",
                "{a} {op} {b} =",
                "Calculate {a} {op} {b}.",
                "How much is {a} {nm} {b}?",
                "What is {a} {nm} {b}?",
                "Compute {a} {nm} {b}.",
            ]
        ).format(a=a, b=b, op=op, nm=nm)
        return (
            q,
            f"I compute: {', '.join(st) or f'{a} {op} {b} = {c}'}.",
            (f"\1{', '.join(st)}.\2" if len(st) > 1 and max(a, b) > 99 else "")
            + f"{a} {op} {b} = {c}.",
        )
    if k < 0.45:
        a, b = (
            (r.randint(0, 9), r.randint(0, 9))
            if r.random() < 0.3
            else (r.randint(0, 99), r.randint(0, 99))
        )
        op, c, nm = "+", a + b, "plus"
        w = (
            f"{a} + {b}: {a%10} + {b%10} = {a%10+b%10}, {a-a%10} + {b-b%10} = {a-a%10+b-b%10}, {a-a%10+b-b%10} + {a%10+b%10} = {c}."
            if a > 9 and b > 9
            else f"{a} + {b} = {c}."
        )
    elif k < 0.75:
        a = r.randint(0, 99) if r.random() < 0.7 else r.randint(0, 18)
        b = r.randint(0, a)
        op, c, nm = "-", a - b, "minus"
        w = (
            f"{a} - {b}: {a} - {b-b%10} = {a-b+b%10}, {a-b+b%10} - {b%10} = {c}."
            if b > 9
            else f"{a} - {b} = {c}."
        )
    else:
        a, b = r.randint(0, 12), r.randint(0, 12)
        op, c, nm = "*", a * b, "times"
        w = f"{a} * {b} = {c}."
    q = r.choice(
        ["What is {a} {op} {b}?"] * 3
        + [
            "{a} {op} {b}",
            "{a}{op}{b}",
            "{a} {op} {b} =",
            "Calculate {a} {op} {b}.",
            "How much is {a} {nm} {b}?",
            "What is {a} {nm} {b}?",
            "Compute {a} {nm} {b}.",
        ]
    ).format(a=a, b=b, op=op, nm=nm)
    return q, w, f"{a} {op} {b} = {c}."


def q_words(r):
    n, m, x, a, b = *r.sample(NAMES, 2), r.choice(THINGS), r.randint(1, 20), r.randint(1, 20)
    k = r.random()
    if k < 0.35:
        q, c, w = (
            r.choice(
                [
                    f"{n} has {a} {x} and buys {b} more.",
                    f"{n} has {a} {x}. {m} gives {n} {b} more.",
                    f"There are {a} {x} in a box. {n} adds {b} {x}.",
                ]
            ),
            a + b,
            f"{a} + {b} = {a+b}.",
        )
    elif k < 0.7:
        a, b = max(a, b), min(a, b)
        q, c, w = (
            r.choice(
                [
                    f"{n} has {a} {x} and gives {b} to {m}.",
                    f"{n} has {a} {x} and loses {b}.",
                    f"There are {a} {x} in a box. {n} takes {b}.",
                ]
            ),
            a - b,
            f"{a} - {b} = {a-b}.",
        )
    else:
        a, b = r.randint(2, 10), r.randint(2, 10)
        q, c, w = f"{n} has {a} boxes with {b} {x} each.", a * b, f"{a} * {b} = {a*b}."
    box = "in a box" in q
    return (
        q
        + (
            f" How many {x} are in the box now?"
            if box
            else f" How many {x} does {n} have now?" if k < 0.7 else f" How many {x} does {n} have?"
        ),
        f"I compute: {w}",
        (f"There are {c} {x} in the box." if box else f"{n} has {c} {x}."),
    )


def q_compare(r):
    if r.random() < 0.5:
        a, b = r.sample(range(100 if r.random() < 0.7 else 1000), 2)
        big = r.random() < 0.5
        c = max(a, b) if big else min(a, b)
        return (
            r.choice(
                [
                    f"Which is {'larger' if big else 'smaller'}, {a} or {b}?",
                    f"Which number is {'larger' if big else 'smaller'}: {a} or {b}?",
                ]
            ),
            f"I compare {a} and {b}.",
            f"{c} is {'larger' if big else 'smaller'} than {a + b - c}.",
        )
    x = r.sample(range(1, 100 if r.random() < 0.5 else 10), r.randint(3, 5))
    return (
        r.choice(["Sort these numbers: ", "Sort: ", "Put these numbers in order: "])
        + ", ".join(map(str, x)),
        f"The smallest is {min(x)}, the largest is {max(x)}.",
        ", ".join(map(str, sorted(x))),
    )


def q_list(r):
    k = r.choice(list(LISTS))
    n = r.randint(2, 5)
    ns = ["", "", "two", "three", "four", "five"][n]
    x = LISTS[k][:n]
    return (
        r.choice(["Name {n} {k}.", "List {n} {k}.", "Give me {n} {k}.", "Tell me {n} {k}."]).format(
            n=r.choice([ns, str(n)]), k=k
        ),
        f"The user wants {ns} {k}.",
        cap(join(x)) + ".",
    )


def q_text(r):
    k = r.random()
    if k < 0.25:
        return (
            r.choice(
                [
                    "Tell me a joke.",
                    "Tell me a joke",
                    "Do you know a joke?",
                    "Make me laugh.",
                    "Say something funny.",
                ]
            ),
            "The user wants a joke. I know one.",
            JOKES[0],
        )
    if k < 0.3:
        i = r.randrange(1, 4)
        return (
            (
                r.choice(["Tell me another joke.", "Another joke, please."])
                if i == 1
                else (
                    r.choice(["Tell me a joke about a thread.", "A joke about threads, please."])
                    if i == 2
                    else "Tell me a joke about tensors."
                )
            ),
            "The user wants a joke. I know one.",
            JOKES[i],
        )
    if k < 0.6:
        t = r.choice(list(HAIKU))
        q = r.choice(
            [
                "Write a haiku about {}.",
                "Write a poem about {}.",
                "Write a short poem about {}.",
                "A haiku about {}, please.",
            ]
        ).format("the sea" if t == "sea" else t)
        if r.random() < 0.25:
            t = "sea"
            q = r.choice(["Write a poem.", "Write a haiku.", "Write me a short poem."])
        return q, "The user wants a short poem. I write three lines.", HAIKU[t]
    n, o = r.choice(NAMES), r.choice(NOUNS)
    if r.random() < 0.5:
        o = word(r)
    if r.random() < 0.3:
        n = Word(r)
    if r.random() < 0.3:
        n, o = "Ana", "lamp"
        q = r.choice(
            ["Tell me a story.", "Write a story.", "Write a short story.", "Tell me a long story."]
        )
    else:
        q = r.choice(
            [
                "Tell me a story about {n} and a {o}.",
                "Write a short story about {n} and a {o}.",
                "Write a story about {n} who finds a {o}.",
            ]
        ).format(n=n, o=o)
    return (
        q,
        f"The user wants a story. I take {n} and a {o}.",
        (
            f"Once there was a child called {n} who lived near the sea. One morning {n} found an old {o} on the beach. The {o} was broken, and nobody in the village wanted it. "
            f"{n} carried it home, cleaned it and worked on it for three days. In the evening of the third day the {o} was as good as new. The whole village came to look, and {n} was proud. From that day on people brought their broken things to {n}."
        ),
    )


def q_count(r):
    if r.random() < 0.1:
        return (
            r.choice(["Say the alphabet.", "List the letters of the alphabet."]),
            "The user wants the alphabet.",
            ", ".join("abcdefghijklmnopqrstuvwxyz"),
        )
    if r.random() < 0.2:
        n = r.randint(2, 12)
        return (
            r.choice([f"Write the multiplication table of {n}.", f"Show the times table of {n}."]),
            f"I multiply {n} by 1 to 10.",
            "\n".join(f"{n} * {i} = {n*i}" for i in range(1, 11)),
        )
    a = r.choice((1, 1, 1, r.randint(0, 90)))
    b = a + (r.randint(3, 20) if r.random() < 0.8 else r.randint(20, 99))
    if r.random() < 0.15:
        return (
            f"Count down from {b-a+1} to 1.",
            f"I count down from {b-a+1} to 1.",
            ", ".join(map(str, range(b - a + 1, 0, -1))),
        )
    return (
        r.choice(
            [
                f"Count from {a} to {b}.",
                f"Count from {a} to {b}",
                f"List the numbers from {a} to {b}.",
            ]
            + ([f"Count to {b}."] if a == 1 else [])
        ),
        f"I count from {a} to {b}.",
        ", ".join(map(str, range(a, b + 1))),
    )


def phrase(r):
    k = r.random()
    if k < 0.3:
        return " ".join(word(r) for _ in range(r.randint(1, 5)))
    if k < 0.45:
        return f"{r.choice(NAMES)} {r.choice(DOINGS)} at {r.choice(PLACES)}"
    if k < 0.6:
        return " ".join(
            r.choice(
                [
                    "the",
                    "a",
                    "of",
                    "my",
                    "with",
                    r.choice(WORDS),
                    r.choice(WORDS),
                    r.choice(PIECES or WORDS),
                    str(r.randint(0, 9999)),
                ]
            )
            for _ in range(r.randint(2, 7))
        )
    if k < 0.8:
        return " ".join(r.choice(ADJS + NOUNS + CITIES) for _ in range(r.randint(1, 7)))
    return f"{word(r)}-{r.randint(0, 9999)}"


def q_echo(r):
    p = phrase(r)
    k = r.random()
    if k < 0.7:
        return (
            r.choice(
                [
                    "Repeat after me: {}",
                    "Say: {}",
                    "Repeat: {}",
                    "Repeat this: {}",
                    "Echo: {}",
                    "Write exactly this: {}",
                    "Say exactly: {}",
                ]
            ).format(p),
            r.choice(["I repeat the text.", "The user wants the text again."]),
            p,
        )
    if k < 0.85:
        w = r.choice([word(r), r.choice(NOUNS)])
        n = r.randint(2, 5)
        return (
            f"Say {w} {['two', 'three', 'four', 'five'][n-2]} times.",
            f"I say {w} {n} times.",
            " ".join([w] * n),
        )
    x = [r.choice(NOUNS) for _ in range(r.randint(2, 5))]
    if r.random() < 0.5:
        return (
            "Write these words in reverse order: " + ", ".join(x),
            "I take the words from the end.",
            ", ".join(x[::-1]),
        )
    return (
        r.choice(["Make a bullet list: ", "Write as a list: "]) + ", ".join(x),
        "I write one word per line.",
        "\n".join("- " + w for w in x),
    )


def q_two(r):  # two questions at once, answered in order
    k = r.random()
    if k < 0.15:
        x, y = r.sample(list(CAPITALS), 2)
        q = r.choice(
            [
                "Tell me the capitals of {} and {}.",
                "Give me the capitals of {} and {}.",
                "What is the capital of {} and of {}?",
                "capitals of {} and {}",
                "Name the capitals of {} and {}.",
                "Which are the capitals of {} and {}?",
            ]
        ).format(x, y)
        return (
            cap(q),
            f"The user asks for two capitals. They are {CAPITALS[x]} and {CAPITALS[y]}.",
            f"The capital of {x} is {CAPITALS[x]}. The capital of {y} is {CAPITALS[y]}.",
        )
    if k < 0.2:
        x, y = r.sample(ELEMENTS, 2)
        q = r.choice(
            [
                "What are the symbols of {} and {}?",
                "Tell me the symbols of {} and {}.",
                "What is the chemical symbol of {} and of {}?",
            ]
        ).format(x[0], y[0])
        return (
            q,
            f"The user asks for two symbols. They are {x[1]} and {y[1]}.",
            f"The chemical symbol of {x[0]} is {x[1]}. The chemical symbol of {y[0]} is {y[1]}.",
        )

    def one():
        while True:
            q, w, a = r.choice(
                (q_capital, q_capital, q_element, q_order, q_fact, q_fact, q_math, q_ident)
            )(r)
            if (
                a[0] != "\1"
                and "\n" not in q
                and not re.match(
                    "(List|Name all|Name the planets|What are the (days|months|planets)|Help|help)",
                    q,
                )
            ):
                return q, w, a

    (q, w, a), (q2, w2, a2) = one(), one()
    f = q2.split()[0]
    b = (
        q2[0].lower() + q2[1:]
        if f
        in "What What's Which Who How Tell Name Do Can Why Explain Define Calculate Compute Describe Symbol Of I Are".split()
        and f != "I"
        else q2
    )
    s = q.rstrip("?. =")
    q = r.choice(
        ["{q} {q2}"] * 3
        + ["{s} and {b}"] * 3
        + ["{s}, and {b}"] * 2
        + [
            "{q} And {b}",
            "{q}\n{q2}",
            "{q} Also, {b}",
            "Two things: {q} {q2}",
            "1. {q}\n2. {q2}",
            "First: {q} Second: {q2}",
            "{s}? And then: {b}",
            "I want to know two things: {b0}, and {b}",
        ]
    ).format(q=q, q2=q2, s=s, b=b, b0=s[0].lower() + s[1:])
    return q, w + " " + w2, a + " " + a2


SIMPLE = [
    (q_capital, 18),
    (q_element, 11),
    (q_order, 9),
    (q_fact, 26),
    (q_ident, 9),
    (q_greet, 8),
    (q_unknown, 12),
    (q_math, 22),
    (q_words, 7),
    (q_compare, 5),
    (q_list, 4),
    (q_text, 6),
    (q_count, 5),
    (q_echo, 12),
    (q_two, 13),
]
SF, SW = zip(*SIMPLE)


def simple(r, polish=True, careful=False):
    f = r.choices(SF, SW)[0]
    q, w, a = f(r)
    q = q if careful or r.random() > 0.33 else rough(r, f, q, a)
    if polish and r.random() < 0.12:
        k = r.random()
        if k < 0.35:
            q = q[0].lower() + q[1:]
        elif k < 0.5:
            q = q.rstrip("?.!")
        elif k < 0.75:
            q = (
                r.choice(
                    [
                        "Please answer: ",
                        "Quick question: ",
                        "I have a question. ",
                        "Hey, ",
                        "Please: ",
                        "Tell me: ",
                        "Hi! ",
                        "Hello. ",
                        "One more thing: ",
                        "OK, ",
                        "Now tell me: ",
                        "Next question. ",
                        "Please answer this question.\n",
                        "Question: ",
                    ]
                )
                + q
            )
        else:
            q += r.choice(
                [
                    " Please be short.",
                    " Thanks.",
                    " Please answer in one sentence.",
                    "\n",
                    " Thank you!",
                ]
            )
    return q, w, a
