"""Reads and writes safetensors files with numpy alone.

A tensor is an array of the plain type that holds its bytes, beside the name of its dtype, because
numpy has no BF16, FP8 or FP4: BF16 is uint16, F8_E4M3 and F8_E8M0 are uint8, packed FP4 is int8.
"""

import json
import struct
from pathlib import Path

import numpy as np

PLAIN = {
    "F32": np.float32,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
    "F8_E4M3": np.uint8,
    "F8_E8M0": np.uint8,
}

# Real checkpoints put wide types first, which also keeps every tensor aligned to its own size.
ORDER = ["I64", "F32", "I32", "BF16", "F8_E8M0", "F8_E4M3", "I8", "U8"]


def read_file(path):
    """-> {name: (dtype, array)}"""
    raw = np.memmap(path, np.uint8, "r")
    (size,) = struct.unpack("<Q", raw[:8].tobytes())
    header = json.loads(raw[8 : 8 + size].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        data = raw[8 + size + begin : 8 + size + end].view(PLAIN[entry["dtype"]])
        tensors[name] = (entry["dtype"], data.reshape(entry["shape"]))
    return tensors


def write_file(path, tensors, metadata=None):
    """tensors: {name: (dtype, array)}"""
    header, at, body = {}, 0, []
    if metadata:
        header["__metadata__"] = metadata
    for name in sorted(tensors, key=lambda name: (ORDER.index(tensors[name][0]), name)):
        dtype, array = tensors[name]
        data = np.ascontiguousarray(array, PLAIN[dtype]).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [at, at + len(data)],
        }
        at += len(data)
        body.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(body))


def read_checkpoint(directory):
    """Every tensor that the index of a checkpoint names."""
    directory = Path(directory)
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    tensors = {}
    for name in sorted(set(index["weight_map"].values())):
        tensors |= read_file(directory / name)
    return tensors
