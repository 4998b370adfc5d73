"""Asks transformers to load what `gptvq dequantize` writes, for every family, and compares logits with ours.

    python scripts/oracle/dequantized.py [model folder with an oracle.safetensors ...]

The folders default to the tiny models of every family. Fails where a weight is missing, left over, or of another shape, or where a
logit is off by more than 1e-4 of their range. Needs Node and `npm ci`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM
from transformers.utils import logging

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "test" / "model" / "families" / "fixtures"
WORST = 1e-4
logging.disable_progress_bar()
logging.set_verbosity_error()


def load(folder):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    # Fixtures hold what older releases stored besides, which every load reports
    known = ("inv_freq", "attention.bias", "attention.masked_bias")
    extra = [key for key in info["unexpected_keys"] if not key.endswith(known)]
    if info["missing_keys"] or extra or info["mismatched_keys"]:
        raise SystemExit(f"{folder}: missing {info['missing_keys']}, unexpected {extra}, {info['mismatched_keys']}")
    return model.eval()


def check(model, made):
    with safe_open(model / "oracle.safetensors", "pt") as oracle:
        tokens = oracle.get_tensor("tokens").long()
    with torch.no_grad():
        theirs = load(made / "plain")(tokens, use_cache=False).logits.reshape(-1).numpy()
    ours = numpy.fromfile(made / "logits.f32", dtype=numpy.float32)
    error = float(abs(theirs - ours).max() / (theirs.max() - theirs.min()))
    print(f"{model.name}: {error:.1e}", flush=True)
    return error <= WORST


def main():
    models = [Path(folder) for folder in sys.argv[1:]] or sorted(path.parent for path in FIXTURES.glob("*/config.json"))
    with tempfile.TemporaryDirectory() as place:
        command = ["npx", "tsx", "scripts/oracle/dequantized.ts", place, *(str(model.resolve()) for model in models)]
        subprocess.run(command, cwd=ROOT, check=True)
        failed = [model.name for model in models if not check(model, Path(place) / model.name)]
    if failed:
        raise SystemExit(f"off by more than {WORST} of the range: {', '.join(failed)}")


main()
