"""Runs refc.c, the official numerics in plain C, on many requests at once."""

import json
import os
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).parent


def read_header(path):
    """-> {name: (entry, first byte of its data in the file, bytes)}"""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    place = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        place[name] = (entry, 8 + size + begin, end - begin)
    return place


def write_safetensors(path, tensors, metadata):
    """tensors: {name: (dtype, struct letter, list of values)}, all of one dimension."""
    header, at, body = {"__metadata__": metadata}, 0, b""
    for name, (dtype, letter, values) in tensors.items():
        data = struct.pack(f"<{len(values)}{letter}", *values)
        header[name] = {
            "dtype": dtype,
            "shape": [len(values)],
            "data_offsets": [at, at + len(data)],
        }
        at += len(data)
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def build():
    """The program, compiled again when its source is newer."""
    source, program = HERE / "refc.c", Path(tempfile.gettempdir()) / "pilot_refc"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        flags = ["-O3", "-march=native", "-funroll-loops"]
        subprocess.run(["gcc", *flags, "-o", program, source, "-lm"], check=True)
    return program


class Engine:
    def __init__(self, checkpoint):
        checkpoint = Path(checkpoint)
        index = json.loads((checkpoint / "model.safetensors.index.json").read_text())
        self.folder = tempfile.TemporaryDirectory()
        tensors = Path(self.folder.name) / "tensors"
        with open(tensors, "w") as out:
            for file in sorted(set(index["weight_map"].values())):
                path = (checkpoint / file).resolve()
                for name, (entry, at, size) in read_header(path).items():
                    shape = entry["shape"]
                    print(name, entry["dtype"], len(shape), *shape, path, at, size, file=out)
        self.command = [build(), tensors]

    def replies(self, requests):
        """[(most new tokens, ids)] -> one raw line each, the work spread over processes."""
        longest_first = sorted(range(len(requests)), key=lambda i: -len(requests[i][1]))
        replies, threads = [None] * len(requests), []

        def pump(mine, process):
            for i, line in zip(mine, process.stdout):
                replies[i] = line

        workers = os.cpu_count()
        for worker in range(workers):
            mine = longest_first[worker::workers]
            source = open(Path(self.folder.name) / f"requests{worker}", "w+")
            for i in mine:
                print(requests[i][0], len(requests[i][1]), *requests[i][1], file=source)
            source.seek(0)
            process = subprocess.Popen(
                self.command, stdin=source, stdout=subprocess.PIPE, text=True
            )
            threads.append(threading.Thread(target=pump, args=(mine, process)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return replies

    def greedy(self, requests):
        """-> for each request the ids, the gaps between best and second logit, the MTP drafts."""
        for line in self.replies(requests):
            ids, gaps, drafts = (part.split() for part in line.split("|"))
            yield [int(x) for x in ids], [float(x) for x in gaps], [int(x) for x in drafts]

    def best_after_each(self, texts):
        """-> for each list of ids the best next token after every position."""
        return [[int(x) for x in line.split()] for line in self.replies([(0, t) for t in texts])]
