#!/usr/bin/env python3
"""How fast the daemon answers many streams at once, seen by a client; standard library alone.

    api-tests/streams_bench.py http://127.0.0.1:8000 [--streams 64] [--prompt 2048] [--output 512]
                               [--vocab 100000]

Each stream sends a prompt of random token ids and reads its answer. Printed: the time to the first
token, the rate while every stream decodes (from the last first token to the first end, to be held
against `fathom-bench step` at that batch), and the rate over everything.
"""
import argparse
import asyncio
import json
import random
import time
import urllib.parse


async def stream(options, index, times):
    host = urllib.parse.urlsplit(options.url)
    rng = random.Random(index)
    body = json.dumps({
        "model": options.model,
        "prompt": [rng.randrange(100, options.vocab) for _ in range(options.prompt)],
        "max_tokens": options.output,
        "min_tokens": options.output,
        "temperature": 1,
        "seed": index,
        "stream": True,
    }).encode()
    reader, writer = await asyncio.open_connection(host.hostname, host.port, limit=1 << 20)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                 b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    status = await reader.readline()
    if b" 200 " not in status:
        raise SystemExit(status.decode() + (await reader.read()).decode(errors="replace"))
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            times.append(time.perf_counter())
    writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=2048)
    parser.add_argument("--output", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=100000)
    parser.add_argument("--model", default="deepseek-chat")
    options = parser.parse_args()

    times = [[] for _ in range(options.streams)]
    start = time.perf_counter()
    await asyncio.gather(*(stream(options, i, times[i]) for i in range(options.streams)))
    seconds = time.perf_counter() - start
    chunks = sum(map(len, times))
    tokens = options.streams * options.output
    last_first, first_end = max(t[0] for t in times), min(t[-1] for t in times)
    # A chunk may hold no text yet or several tokens: tokens are those asked for, shared out by chunks.
    inside = sum(last_first <= at <= first_end for t in times for at in t) * tokens / chunks
    print(f"{options.streams} streams, {options.prompt} in, {options.output} out: {seconds:.2f} s, "
          f"{tokens / seconds:.0f} tok/s over all")
    print(f"first token after {min(t[0] for t in times) - start:.3f} to {last_first - start:.3f} s")
    if first_end > last_first:
        print(f"all decoding for {first_end - last_first:.2f} s: {inside / (first_end - last_first):.0f} tok/s")


asyncio.run(main())
