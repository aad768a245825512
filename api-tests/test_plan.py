"""`fathomd plan` on checkpoints with the headers and sizes of the releases, whole and spoilt."""

import json
import os
import pathlib
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FATHOMD = os.environ.get("FATHOMD", str(ROOT / "build" / "fathomd"))
SHARED = pathlib.Path(os.environ.get("FATHOM_SHARED", ROOT.parent / "shared"))
INDEX = "model.safetensors.index.json"


def run(*args):
    """What became of it, and the processor's seconds that it took."""
    before = os.times()
    done = subprocess.run([FATHOMD, *map(str, args)], capture_output=True, text=True)
    after = os.times()
    return done, after.children_user + after.children_system - before.children_user - before.children_system


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Writes each release once: made("flash") is its directory."""
    root, dirs = tmp_path_factory.mktemp("models"), {}

    def make(name):
        if name not in dirs:
            done, _ = run("make-model", "--like", name, root / name)
            assert done.returncode == 0, done.stderr
            dirs[name] = root / name
        return dirs[name]

    return make


# ---------------------------------------------------------------- what a plan says

# Sums of the shapes in the specification; the byte totals of Flash and Pro are those of the releases.
SECONDS = float(os.environ.get("PLAN_SECONDS", "2"))  # more in a sanitizer build
TOTALS = {
    "flash": (69187, 46, 159609485896),
    "pro": (145116, 64, 864704792696),
    "flash-base": (69187, 46, 292502338120),
    "flash-0731": (72317, 48, 166878536440),
}

# What the table must say, by the line that says it: the last numbers of the line.
LINES = {
    "flash": {
        "backbone": 156_015_698_140,
        "drafter": 3_593_787_756,
        "routed experts": 147_169_738_752,
        "a token more, bare rows": 3514.2,
        "window rows, bare": 3_214_336,
        "window rows of the drafter, bare": 74_752,
        "compressor states, ratio 4": 1_720_320,
        "compressor states, ratio 128": 10_485_760,
        "a draft more, without the head": 251.5,
    },
    "pro": {
        "a token more, bare rows": 5031.4,
        "window rows, bare": 4_559_872,
        "window rows of the drafter, bare": 74_752,
        "a draft more, without the head": 691.2,
    },
}


def last_number(line, bytes_column):
    """The figure of a line; lines with bytes have the GiB after it."""
    words = line.replace(",", "").split()
    return float(words[-2] if bytes_column else words[-1])


@pytest.mark.parametrize("name", TOTALS)
def test_every_tensor_of_a_release_is_checked_within_two_seconds(made, name):
    tensors, files, size = TOTALS[name]
    done, seconds = min((run("plan", "--model", made(name)) for _ in range(3)), key=lambda r: r[1])
    assert done.returncode == 0, done.stderr
    assert f"checked: {tensors} tensors in {files} files" in done.stdout
    assert f"{size:,}" in done.stdout
    assert seconds < SECONDS


@pytest.mark.parametrize("name", LINES)
def test_the_table_has_the_numbers_of_the_model(made, name):
    done, _ = run("plan", "--model", made(name))
    for label, wanted in LINES[name].items():
        line = [l for l in done.stdout.splitlines() if l.startswith(f"  {label} ")][0]
        found = last_number(line, isinstance(wanted, int))
        assert found == pytest.approx(wanted, rel=1e-3 if isinstance(wanted, float) else 0), line


def test_reads_and_parameters_of_flash(made):
    out = run("plan", "--model", made("flash"))[0].stdout
    assert "parameters: backbone 284.33 B, drafter 6.61 B, active for a token 13.27 B" in out
    reads = out.split("read for one token alone")[1].split("KV of one")[0]
    found = {l[:38].strip(): float(l.split()[-1]) for l in reads.splitlines()[1:] if l.strip()}
    wanted = {"attention": 4599.5, "routed experts": 3449.3, "shared experts": 1082.2, "head": 1059.1,
              "compressors": 525.7, "indexers": 275.4, "hyper-connections": 135.3, "routers": 90.2}
    for part, megabytes in wanted.items():
        assert found[part] == pytest.approx(megabytes, abs=0.11), part
    assert found["total"] == pytest.approx(11217, abs=1)


def test_the_shards_have_the_sizes_of_the_release(made):
    assert (made("pro") / "model-00001-of-00064.safetensors").stat().st_size == 1853358176


def test_several_gpus_share_the_experts_and_divide_the_streams(made):
    out = run("plan", "--model", made("pro"), "--gpus", 8, "--context", 131072, "--streams", 20)[0].stdout
    rows = [l.replace(",", "").split() for l in out.split("device ")[1].splitlines()[1:]]
    assert [row[1] for row in rows] == [f"{48 * g}-{48 * g + 47}" for g in range(8)]
    assert [int(row[2]) for row in rows] == [3, 3, 3, 3, 2, 2, 2, 2]
    layers, expert = 62, 35094528  # the drafter's block is one of them
    everything, all_experts = 864704792696, 62 * 384 * 35094528
    assert all(int(row[3]) == everything - all_experts + layers * 48 * expert for row in rows)
    assert int(rows[0][4]) * 2 == int(rows[4][4]) * 3


@pytest.mark.parametrize("args", [
    [], ["--model"], ["--gpus", "0"], ["--gpus", "x"], ["--gpus", "-1"], ["--streams", "99999999999"],
    ["--colour", "red"], ["--context", "1e3"],
])
def test_wrong_use_is_told(args):
    done, _ = run("plan", *args)
    assert done.returncode == 2
    assert "usage: fathomd plan" in done.stderr


def test_a_context_past_the_models_is_refused(made):
    done, _ = run("plan", "--model", made("flash"), "--context", 1048577)
    assert done.returncode == 1
    assert done.stderr == "fathomd plan: --context: found 1048577, wanted at most the model's 1048576\n"


# ---------------------------------------------------------------- spoilt checkpoints

class Checkpoint:
    """A copy of a checkpoint by links; a file is replaced by a new one when it is spoilt."""

    def __init__(self, source, path):
        self.path = path
        path.mkdir()
        for file in source.iterdir():
            (path / file.name).symlink_to(file)

    def read(self, name):
        return (self.path / name).read_text()

    def write(self, name, text):
        (self.path / name).unlink()
        (self.path / name).write_text(text)

    def config(self, **fields):
        config = json.loads(self.read("config.json")) | fields
        self.write("config.json", json.dumps({k: v for k, v in config.items() if v is not None}))

    def index(self, change):
        index = json.loads(self.read(INDEX))
        change(index["weight_map"])
        self.write(INDEX, json.dumps(index))

    def shard(self, number, of=46):
        return f"model-{number:05}-of-{of:05}.safetensors"

    def header(self, name, change=lambda header: None, raw=None, size=None, data=None):
        """Writes the shard again with a changed header; its data stays a hole."""
        with open(self.path / name, "rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(length))
            data_bytes = os.fstat(file.fileno()).st_size - 8 - length
        change(header)
        text = raw if raw is not None else json.dumps(header).encode()
        (self.path / name).unlink()
        with open(self.path / name, "wb") as file:
            file.write(struct.pack("<Q", len(text) if size is None else size) + text)
            file.truncate(8 + len(text) + (data_bytes if data is None else data(data_bytes)))


def set_tensor(name, **fields):
    def change(header):
        header[name].update(fields)
    return change


def drop_tensor(name):
    """Takes a tensor out of the header; those behind it move up."""
    def change(header):
        begin, end = header.pop(name)["data_offsets"]
        for tensor in header.values():
            tensor["data_offsets"] = [o - (end - begin) if o >= end else o for o in tensor["data_offsets"]]
    return change


SINK, WKV = "layers.5.attn.attn_sink", "layers.5.attn.wkv.weight"


def fault_missing_shard(c):
    (c.path / c.shard(7)).unlink()
    return "{dir}/{shard7}: No such file or directory ({index} names it for tensor layers.5.attn.attn_sink)"


def fault_missing_tensor(c):
    c.header(c.shard(7), drop_tensor(SINK), data=lambda size: size - 256)
    c.index(lambda m: m.pop(SINK))
    return "{dir}: tensor layers.5.attn.attn_sink is missing, wanted F32 [64]"


def fault_tensor_gone_from_its_file(c):
    c.header(c.shard(7), drop_tensor(SINK), data=lambda size: size - 256)
    return "{dir}/{shard7}: tensor layers.5.attn.attn_sink is not in it, though {index} says so"


def fault_wrong_dtype(c):
    c.header(c.shard(7), set_tensor(WKV, dtype="I8"))
    return "{dir}/{shard7}: tensor layers.5.attn.wkv.weight: found I8 [512, 4096], wanted F8_E4M3 [512, 4096] as config.json says"


def fault_unknown_dtype(c):
    c.header(c.shard(7), set_tensor(WKV, dtype="INT4"))
    return "{dir}/{shard7}: tensor layers.5.attn.wkv.weight: found dtype INT4, which is not known"


def fault_wrong_shape(c):
    c.header(c.shard(7), set_tensor(WKV, shape=[4096, 512]))
    return "{dir}/{shard7}: tensor layers.5.attn.wkv.weight: found F8_E4M3 [4096, 512], wanted F8_E4M3 [512, 4096] as config.json says"


def fault_wrong_dimensions(c):
    c.header(c.shard(7), set_tensor(SINK, shape=[1, 64]))
    return "{dir}/{shard7}: tensor layers.5.attn.attn_sink: found F32 [1, 64], wanted F32 [64] as config.json says"


def fault_shape_and_bytes_differ(c):
    c.header(c.shard(7), set_tensor(SINK, shape=[63]))
    return "{dir}/{shard7}: tensor layers.5.attn.attn_sink: found 256 bytes in data_offsets, wanted 252 for F32 [63]"


def fault_overlap(c):
    c.header(c.shard(7), lambda h: h["layers.5.hc_attn_base"].update(data_offsets=[0, 96]))
    return "{dir}/{shard7}: tensor layers.5.attn.attn_sink: begins at byte 0 of the data, inside layers.5.hc_attn_base, which ends at 96"


def fault_gap(c):
    c.header(c.shard(7), lambda h: h.pop(SINK))
    c.index(lambda m: m.pop(SINK))
    return "{dir}/{shard7}: tensor layers.5.attn.compressor.ape: begins at byte 256 of the data, and bytes from 0 on belong to no tensor"


def fault_past_the_end(c):
    c.header(c.shard(7), data=lambda size: size - 1)
    return "wanted them inside the file's"


def fault_trailing_bytes(c):
    c.header(c.shard(1), data=lambda size: size + 1)
    return "{dir}/{shard1}: found 1059061761 bytes of data, wanted the 1059061760 that its tensors have"


def fault_offsets_backwards(c):
    c.header(c.shard(1), set_tensor("embed.weight", data_offsets=[1059061760, 0]))
    return "{dir}/{shard1}: tensor embed.weight: found data_offsets [1059061760, 0], wanted them inside the file's 1059061760 bytes of data"


def fault_truncated_header(c):
    c.header(c.shard(1), raw=b'{"embed.weight"', data=lambda size: 0)
    return "{dir}/{shard1}: the header ends, wanted ':'"


def fault_empty_file(c):
    c.write(c.shard(1), "")
    return "{dir}/{shard1}: found 0 bytes, wanted at least the 8 of a header's size"


def fault_header_longer_than_the_file(c):
    c.header(c.shard(1), size=3000000, data=lambda size: 0)
    return "bytes after the header's size, wanted the 3000000 of the header"


def fault_huge_header(c):
    c.header(c.shard(1), size=2**64 - 1)
    return "{dir}/{shard1}: found a header of 18446744073709551615 bytes, wanted at most 100000000"


def fault_no_json(c):
    c.header(c.shard(1), raw=b"hello")
    return "{dir}/{shard1}: header byte 8: found 'h', wanted '{{'"


def fault_duplicate_tensor(c):
    raw = json.dumps({"embed.weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}})[:-1]
    c.header(c.shard(1), raw=(raw + ", " + raw[1:].replace("[0, 4]", "[4, 8]") + "}").encode(), data=lambda size: 8)
    return "{dir}/{shard1}: tensor embed.weight: found a second time, first in {shard1}"


def fault_tensor_in_two_files(c):
    c.header(c.shard(45), lambda h: h.update({"embed.weight": h.pop("norm.weight")}))
    return "{dir}/{shard45}: tensor embed.weight: found a second time, first in {shard1}"


def fault_index_names_another_file(c):
    c.index(lambda m: m.update({SINK: c.shard(8)}))
    return "{index}: tensor layers.5.attn.attn_sink: found in {shard7}, wanted in {shard8}"


def fault_index_lacks_a_tensor(c):
    c.index(lambda m: m.pop(SINK))
    return "{dir}/{shard7}: tensor layers.5.attn.attn_sink is not in {index}"


def fault_index_leaves_the_directory(c):
    c.index(lambda m: m.update({SINK: "../../etc/passwd"}))
    return '{dir}/{index}: weight_map.layers.5.attn.attn_sink: found "../../etc/passwd", wanted the plain name of a file'


def fault_index_no_json(c):
    c.write(INDEX, '{"weight_map": {')
    return "{dir}/{index}: "


def fault_index_absent(c):
    (c.path / INDEX).unlink()
    return "{dir}/{index}: No such file or directory"


def fault_hidden_size(c):
    c.config(hidden_size=4224)
    return "{dir}/{shard1}: tensor embed.weight: found BF16 [129280, 4096], wanted BF16 [129280, 4224] as config.json says"


def fault_fewer_experts(c):
    c.config(n_routed_experts=160)
    return "found BF16 [256, 4096], wanted BF16 [160, 4096] as config.json says"


def fault_more_layers(c):
    c.config(num_hidden_layers=44, compress_ratios=[0, 0] + [4, 128] * 20 + [4, 128, 0])
    return "{dir}: tensor layers.43.hc_attn_fn is missing, wanted F32 [24, 16384]"


def fault_fewer_layers(c):
    c.config(num_hidden_layers=42, compress_ratios=[0, 0] + [4, 128] * 20 + [0])
    return "found, but config.json describes a model without it (42 layers, 256 experts, 1 drafter blocks)"


def fault_ratios_length(c):
    c.config(compress_ratios=[0, 0] + [4, 128] * 20 + [4])
    return "{dir}/config.json: compress_ratios: found 43 entries, wanted 44: num_hidden_layers and num_nextn_predict_layers"


def fault_ratios_swapped(c):
    c.config(compress_ratios=[0, 0] + [128, 4] * 20 + [4, 0])
    return "{dir}/{shard4}: tensor layers.2.attn.compressor.ape: found F32 [4, 1024], wanted F32 [128, 512] as config.json says"


def fault_o_groups(c):
    c.config(o_groups=16)
    return "tensor layers.0.attn.wo_a.weight: found F8_E4M3 [8192, 4096], wanted F8_E4M3 [16384, 2048] as config.json says"


def fault_hash_layers(c):
    c.config(num_hash_layers=2)
    return "{dir}: tensor layers.2.ffn.gate.bias is missing, wanted F32 [256]"


def fault_expert_dtype(c):
    c.config(expert_dtype="fp8")
    return "{dir}/{shard2}: tensor layers.0.ffn.experts.0.w1.weight: found I8 [2048, 2048], wanted F8_E4M3 [2048, 4096] as config.json says"


def fault_scale_missing(c):
    name = "layers.5.attn.wkv.scale"
    c.header(c.shard(7), drop_tensor(name), data=lambda size: size - 128)
    c.index(lambda m: m.pop(name))
    return "{dir}: tensor layers.5.attn.wkv.scale is missing, wanted F8_E8M0 [4, 32]"


def fault_scale_shape(c):
    c.header(c.shard(7), set_tensor("layers.5.attn.wkv.scale", shape=[128, 1]))
    return "{dir}/{shard7}: tensor layers.5.attn.wkv.scale: found F8_E8M0 [128, 1], wanted F8_E8M0 [4, 32] as config.json says"


def fault_tid2eid_int32(c):
    c.header(c.shard(2), set_tensor("layers.0.ffn.gate.tid2eid", dtype="I32", shape=[129280, 12]))
    return "{dir}/{shard2}: tensor layers.0.ffn.gate.tid2eid: found I32 [129280, 12], wanted I64 [129280, 6] as config.json says"


def fault_mtp_missing(c):
    c.index(lambda m: [m.pop(k) for k in list(m) if k.startswith("mtp.")])
    return "{dir}: tensor mtp.0.hc_attn_fn is missing, wanted F32 [24, 16384]"


def fault_model_type(c):
    c.config(model_type="deepseek_v3")
    return '{dir}/config.json: model_type: found "deepseek_v3", wanted "deepseek_v4"'


def fault_v41(c):
    c.config(model_type="deepseek_v41")
    return ('{dir}/config.json: model_type: found "deepseek_v41" (DeepSeek-V4.1), another architecture that '
            'this version does not serve yet, wanted "deepseek_v4"')


def fault_config_absent(c):
    (c.path / "config.json").unlink()
    return "{dir}/config.json: No such file or directory"


def fault_config_nested(c):
    c.write("config.json", "[" * 1000000)
    return "{dir}/config.json: JSON is nested deeper than 128 levels"


def fault_config_infinite(c):
    c.write("config.json", c.read("config.json").replace('"swiglu_limit": 10', '"swiglu_limit": 1e400'))
    return "{dir}/config.json: "


def fault_other_names(c):
    c.header(c.shard(1), lambda h: h.update({"model.embed_tokens.weight": h.pop("embed.weight")}))
    c.index(lambda m: m.update({"model.embed_tokens.weight": m.pop("embed.weight")}))
    return ("{dir}: tensor embed.weight is missing, wanted BF16 [129280, 4096]; it has "
            "model.embed_tokens.weight, so its names are another format's")


FAULTS = {name[6:]: f for name, f in globals().items() if name.startswith("fault_")}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_with_its_sentence(made, tmp_path, name):
    c = Checkpoint(made("flash"), tmp_path / "model")
    wanted = FAULTS[name](c).format(dir=c.path, index=INDEX,
                                    **{f"shard{n}": c.shard(n) for n in (1, 2, 4, 7, 8, 45)})
    done, seconds = run("plan", "--model", c.path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    found = done.stderr.removeprefix("fathomd plan: ").rstrip("\n")
    whole = wanted.startswith(("{", str(c.path), INDEX)) and not wanted.endswith(": ")
    assert found == wanted if whole else wanted in found
    assert seconds < SECONDS


# ---------------------------------------------------------------- variants that are served

def test_tensors_of_other_names_are_left_alone(made, tmp_path):
    def add(header):
        end = max(tensor["data_offsets"][1] for tensor in header.values())
        header["vision.patch.weight"] = {"dtype": "F16", "shape": [4], "data_offsets": [end, end + 8]}

    c = Checkpoint(made("flash"), tmp_path / "model")
    c.header(c.shard(45), add, data=lambda size: size + 8)
    c.index(lambda m: m.update({"vision.patch.weight": c.shard(45)}))
    c.config(vision_config={"depth": 24})
    done, _ = run("plan", "--model", c.path)
    assert done.returncode == 0, done.stderr
    assert ("note: 1 tensors are not part of the text model and left alone, the first is "
            "vision.patch.weight") in done.stdout


def test_a_dspark_drafter_is_checked_and_said_to_be_unused(made, tmp_path):
    done, _ = run("plan", "--model", made("flash-0731"))
    assert "note: the DSpark drafter's tensors are complete and not used" in done.stdout
    c = Checkpoint(made("flash-0731"), tmp_path / "model")
    c.header(c.shard(46, 48), drop_tensor("mtp.0.main_norm.weight"), data=lambda size: size - 8192)
    c.index(lambda m: m.pop("mtp.0.main_norm.weight"))
    done, _ = run("plan", "--model", c.path)
    assert done.returncode == 1
    assert "tensor mtp.0.main_norm.weight is missing, wanted BF16 [4096]" in done.stderr


def test_fp8_experts_are_seen_when_config_does_not_say(made, tmp_path):
    c = Checkpoint(made("flash-base"), tmp_path / "model")
    c.config(expert_dtype=None)
    done, _ = run("plan", "--model", c.path)
    assert done.returncode == 0, done.stderr
    assert f"{TOTALS['flash-base'][2]:,}" in done.stdout


def test_a_single_file_needs_no_index(tmp_path):
    shared = SHARED / "fixtures" / "dsv4-tiny"
    if not shared.is_dir():
        pytest.skip(f"{shared} is absent")
    (tmp_path / "config.json").symlink_to((shared / "config.json").resolve())
    (tmp_path / "model.safetensors").symlink_to((shared / "model-00001-of-00001.safetensors").resolve())
    done, _ = run("plan", "--model", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "checked: 585 tensors in 1 files" in done.stdout
