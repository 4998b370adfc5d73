"""Writes test/gguf/blocks-golden.json: blocks of random bytes of every GGUF type, and what the gguf package reads in them.

    python scripts/oracle/gguf_blocks.py
"""

import base64
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import dequantize
from gguf.constants import GGML_QUANT_SIZES

OUT = Path(__file__).parents[2] / "test/gguf/blocks-golden.json"
KINDS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "BF16", "F16"]
# where in a block the halves are: random bytes there could be NaN
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}


def blocks_of(kind, random):
    values, size = GGML_QUANT_SIZES[Type[kind]]
    if values == 1:
        floats = random.standard_normal(64).astype(np.float32)
        return floats.astype(np.float16).view(np.uint8) if kind == "F16" else (floats.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    count = max(2, 256 // values)
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES[kind]:
        halves = random.standard_normal((count, 1)).astype(np.float16)
        halves[0] = np.float16(6e-8)
        blocks[:, at : at + 2] = halves.view(np.uint8)
    return blocks.reshape(-1)


def main():
    random = np.random.default_rng(1)
    golden = []
    for kind in KINDS:
        raw = blocks_of(kind, random)
        values = np.asarray(dequantize(raw, Type[kind]), dtype="<f4").reshape(-1)
        golden.append({"type": kind, "bytes": base64.b64encode(raw.tobytes()).decode(), "float32": base64.b64encode(values.tobytes()).decode()})
    OUT.write_text(json.dumps({"gguf": version("gguf"), "blocks": golden}, indent=1) + "\n")


main()
