"""The forward pass against goldens that an independent implementation computed, through the shell."""

import os
import pathlib
import subprocess

import pytest

from conftest import FATHOMD, ROOT

SHARED = pathlib.Path(os.environ.get("FATHOM_SHARED", ROOT.parent / "shared"))
TESTDATA = ROOT / "engine" / "testdata"


def golden(model, file, *options):
    done = subprocess.run([FATHOMD, "golden", "--model", str(model), *options, str(file)],
                          capture_output=True, text=True, timeout=900, check=False)
    print(done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("numerics", ["exact", "official"])
@pytest.mark.parametrize("name", ["tiny", "other"])
def test_small_checkpoints_agree_with_their_goldens(name, numerics):
    model = TESTDATA / name
    assert golden(model, model / f"golden_{numerics}.safetensors", "--numerics", numerics).returncode == 0


def test_pilot_repeats_its_continuations_token_for_token():
    model = ROOT / "models" / "pilot"
    assert golden(model, model / "golden.safetensors").returncode == 0


@pytest.mark.parametrize("isa", ["plain", "avx2"])
def test_every_instruction_set_agrees(isa):
    model = TESTDATA / "tiny"
    assert golden(model, model / "golden_exact.safetensors", "--numerics", "exact", "--isa", isa,
                  "--chunk", "64").returncode == 0


@pytest.mark.parametrize("numerics", ["exact", "official"])
def test_full_tiny_checkpoint_agrees(numerics):
    model = SHARED / "fixtures" / "dsv4-tiny"
    if not model.is_dir():
        pytest.skip(f"{model} is absent")
    assert golden(model, model / f"golden_{numerics}.safetensors", "--numerics", numerics).returncode == 0


def test_goldens_of_another_model_are_refused_with_a_failure():
    done = golden(TESTDATA / "other", TESTDATA / "tiny" / "golden_exact.safetensors", "--numerics", "exact")
    assert done.returncode == 1
