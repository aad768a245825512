"""Schemas and tools for random tests, each with documents that it accepts as our writers would write them;
a judge of documents, jsonschema; and schemas that mean harm."""

import datetime
import random
import re

import jsonschema

WORDS = ["a", "b", "name", "né", "x y", "data", "id", "kind", "", "日本", 'q"t', "tab\t", "</b>"]
PATTERNS = [  # the expression, and texts that match it
    ("^[a-z]{1,8}$", lambda r: "".join(r.choice("abcxyz") for _ in range(r.randint(1, 8)))),
    ("^(ab|cd)+[0-9]?$", lambda r: r.choice(["ab", "cdab", "abab7", "cd0"])),
    ("^[A-Z]{2}-[0-9]{3}$", lambda r: f"{r.choice(['AB', 'ZZ'])}-{r.randint(100, 999)}"),
    ("end$", lambda r: r.choice(["", "the ", "é\n"]) + "end"),
    ("^\\S+ \\S+$", lambda r: r.choice(["a b", "é 日", "1 2"])),
    ("^[^\"]*$", lambda r: r.choice(["", "a\nb", "\\", "😀"])),
]
FORMATS = [
    ("date", lambda r: r.choice(["2024-02-29", "1999-12-31", "2000-01-01"])),
    ("time", lambda r: r.choice(["00:00:00Z", "23:59:59.25+01:00"])),
    ("date-time", lambda r: r.choice(["2024-02-29T12:00:00Z", "2021-06-30T23:59:59.123456-05:30"])),
    ("ipv4", lambda r: ".".join(str(r.randint(0, 255)) for _ in range(4))),
    ("ipv6", lambda r: r.choice(["::1", "2001:db8::8a2e:370:7334", "1:2:3:4:5:6:7:8"])),
    ("uuid", lambda r: "123e4567-e89b-12d3-a456-42661417%04x" % r.randint(0, 65535)),
    ("email", lambda r: r.choice(["a@example.com", "first.last+tag@mail.example.org"])),
    ("hostname", lambda r: r.choice(["example.com", "a-b.example", "localhost"])),
]


def some_text(r, least=0, most=12):
    alphabet = "abc é日😀\"\\\n\t<>{}[]:,/01"
    return "".join(r.choice(alphabet) for _ in range(r.randint(least, most)))


def any_value(r, depth=2):
    kind = r.randrange(7 if depth else 5)
    if kind == 0:
        return None
    if kind == 1:
        return r.random() < 0.5
    if kind == 2:
        return r.randint(-(10**9), 10**9)
    if kind == 3:
        return round(r.uniform(-1000, 1000), r.randint(0, 6))
    if kind == 4:
        return some_text(r)
    if kind == 5:
        return [any_value(r, depth - 1) for _ in range(r.randint(0, 3))]
    return {some_text(r, 0, 5): any_value(r, depth - 1) for _ in range(r.randint(0, 3))}


def string_schema(r):
    kind = r.randrange(4)
    if kind == 0:
        return {"type": "string"}, lambda r: some_text(r)
    if kind == 1:
        least, most = sorted((r.randint(0, 10), r.randint(0, 10)))
        return ({"type": "string", "minLength": least, "maxLength": most},
                lambda r: some_text(r, least, most))
    word, made = r.choice(PATTERNS if kind == 2 else FORMATS)
    return {"type": "string", "pattern" if kind == 2 else "format": word}, made


def number_schema(r):
    integer = r.random() < 0.6
    schema = {"type": "integer" if integer else "number"}
    low, high = sorted((r.randint(-500, 500), r.randint(-500, 500)))
    if not integer:
        low, high = low / 8, high / 8 + 1
    sides = r.randrange(4)
    if sides & 1:
        schema["minimum"] = low
    if sides & 2:
        schema["maximum"] = high
    if sides & 1 and r.random() < 0.3 and high - low > 2:
        schema["exclusiveMinimum"] = schema.pop("minimum") - 1
    if integer and r.random() < 0.2 and high - low > 20:
        step = r.randint(2, 9)
        schema["multipleOf"] = step
        return schema, lambda r: -(-low // step) * step if sides & 1 else high // step * step
    if integer:
        return schema, lambda r: r.randint(low, high)
    return schema, lambda r: round(r.uniform(low, high), 3) if high - low > 0.01 else high


def object_schema(r, depth):
    names = r.sample(WORDS, r.randint(0, 5))
    parts = {name: some_schema(r, depth - 1) for name in names}
    required = [name for name in names if r.random() < 0.6]
    schema = {"type": "object", "properties": {n: p[0] for n, p in parts.items()},
              "required": required}
    extra = r.randrange(3)
    rest = some_schema(r, 0) if extra == 2 else None
    if extra:
        schema["additionalProperties"] = rest[0] if rest else False

    def made(r):
        value = {n: parts[n][1](r) for n in names if n in required or r.random() < 0.5}
        for i in range(r.randint(0, 2) if rest else 0):
            value[f"more{i}"] = rest[1](r)
        return value

    return schema, made


def array_schema(r, depth):
    item, made = some_schema(r, depth - 1)
    least, most = sorted((r.randint(0, 4), r.randint(0, 4)))
    schema = {"type": "array", "items": item}
    if r.random() < 0.5:
        schema["minItems"] = least
    if r.random() < 0.5:
        schema["maxItems"] = most
    return schema, lambda r: [made(r) for _ in range(r.randint(least, most))]


def some_schema(r, depth):
    kind = r.randrange(9 if depth > 0 else 5)
    if kind == 0:
        return string_schema(r)
    if kind == 1:
        return number_schema(r)
    if kind == 2:
        values = [any_value(r, 1) for _ in range(r.randint(1, 6))]
        return {"enum": values}, lambda r: r.choice(values)
    if kind == 3:
        return r.choice([({"type": "boolean"}, lambda r: r.random() < 0.5),
                         ({"type": ["null", "boolean"]}, lambda r: r.choice([None, True]))])
    if kind == 4:
        return {}, lambda r: any_value(r)
    if kind == 5:
        return array_schema(r, depth)
    if kind == 6:
        parts = [some_schema(r, depth - 1) for _ in range(r.randint(1, 3))]
        return {"anyOf": [p[0] for p in parts]}, lambda r: r.choice(parts)[1](r)
    return object_schema(r, depth)


def with_recursion(r):
    leaf, made = some_schema(r, 1)
    schema = {"$ref": "#/$defs/tree", "$defs": {"leaf": leaf, "tree": {
        "type": "object", "required": ["kids"], "properties": {
            "leaf": {"$ref": "#/$defs/leaf"},
            "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}}

    def tree(r, depth=3):
        value = {"leaf": made(r)} if r.random() < 0.7 else {}
        value["kids"] = [tree(r, depth - 1) for _ in range(r.randint(0, 2) if depth else 0)]
        return value

    return schema, tree


def schema_number(seed):
    r = random.Random(seed)
    schema, made = with_recursion(r) if seed % 10 == 0 else some_schema(r, 3)
    return r, schema, made


FORMAT_CHECKER = jsonschema.FormatChecker(["date", "ipv4", "ipv6", "uuid", "email"])


@FORMAT_CHECKER.checks("time", raises=ValueError)
def is_time(text):
    if not isinstance(text, str):
        return True
    return datetime.time.fromisoformat(text).tzinfo is not None


@FORMAT_CHECKER.checks("date-time", raises=ValueError)
def is_date_time(text):
    if not isinstance(text, str):
        return True
    return "T" in text and datetime.datetime.fromisoformat(text).tzinfo is not None


@FORMAT_CHECKER.checks("hostname")
def is_hostname(text):
    if not isinstance(text, str):
        return True
    labels = text.split(".")
    return len(text) <= 253 and all(
        re.fullmatch("[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?", label) for label in labels)


def judge(schema):
    return jsonschema.Draft202012Validator(schema, format_checker=FORMAT_CHECKER)


def some_tools(r):
    tools = []
    for i in range(r.randint(1, 4)):
        names = r.sample(["path", "pat", "city", "n", "x y", "é", "opts", "list"], r.randint(0, 5))
        parts = {name: some_schema(r, 2)[0] for name in names}
        tools.append({"name": f"tool_{i}", "strict": r.random() < 0.7, "parameters": {
            "type": "object", "properties": parts, "additionalProperties": False,
            "required": [name for name in names if r.random() < 0.6]}})
    return tools


HOSTILE = {
    "deep": lambda: nested(200),
    "wide": lambda: {"properties": {f"p{i}": {"enum": list(range(200))} for i in range(2000)}},
    "doubling": lambda: {"$ref": "#/$defs/d0", "$defs": {
        f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} if i < 60 else {"type": "null"}
        for i in range(61)}},
    "objects doubling": lambda: {"$ref": "#/$defs/d0", "$defs": {
        f"d{i}": {"type": "object", "required": ["a", "b"], "properties": {
            "a": {"$ref": f"#/$defs/d{i + 1}"}, "b": {"$ref": f"#/$defs/d{i + 1}"}}}
        if i < 30 else {"type": "null"} for i in range(31)}},
    "cycle": lambda: {"$ref": "#/$defs/a", "$defs": {
        "a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}},
    "subset construction": lambda: {"type": "string", "pattern": "(a|b)*a(a|b){24}"},
    "repeats of repeats": lambda: {"type": "string", "pattern": "((((a{99}){99}){99}){99}){99}"},
    "parentheses": lambda: {"type": "string", "pattern": "(" * 60000 + ")" * 60000},
    "empty quantifiers": lambda: {"type": "string", "pattern": "((((a?){999})?){999})*"},
    "long string": lambda: {"type": "string", "pattern": "^.*$", "minLength": 200000},
    "maxItems": lambda: {"type": "array", "maxItems": 2**62},
    "unrolled": lambda: {"type": "array", "maxItems": 1024, "minItems": 1024, "items": {
        "type": "number", "minimum": -123456.789, "maximum": 987654.321}},
    "alternatives": lambda: {"anyOf": [{"type": "object", "required": ["k"], "properties": {
        "k": {"type": "string"}, f"p{i}": {"type": "integer"}}} for i in range(100)]},
    "optional": lambda: {"properties": {f"property_{i}": {"type": "integer"} for i in range(900)}},
}


def nested(depth):
    schema = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema
