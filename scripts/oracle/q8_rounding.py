"""What it does to SmolLM2's predictions that llama.cpp rounds the inputs of layers to blocks of Q8_0.

    python scripts/oracle/q8_rounding.py FILE.gguf [folder]

FILE is what `gptvq export` makes of the folder that smollm2.py writes. Prints the largest and the mean difference of
log-probabilities above 1e-6, by transformers in float32, on the text of scripts/llama-cpp.ts.
"""

import math
import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from smollm2 import weights_of

TEXT = 'The capital of France is Paris. In 2024, 1234 people said: "it’s fine".\n'
BLOCK = 32


def rounded(x):
    blocks = x.unflatten(-1, (-1, BLOCK))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    codes = torch.round(blocks / scale.clamp_min(1e-30))
    return (codes * scale.half().float()).flatten(-2)


def log_probabilities(model, ids):
    with torch.no_grad():
        return torch.log_softmax(model(ids).logits[0].double(), -1)


def main():
    file, *rest = sys.argv[1:]
    folder = Path(rest[0]) if rest else Path.home() / ".cache/gptvq/smollm2-135m-instruct"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.load_state_dict(dict(weights_of(GGUFReader(file), model.config.to_dict(), torch.float32)), strict=False)
    ids = AutoTokenizer.from_pretrained(folder).encode(TEXT, return_tensors="pt")
    plain = log_probabilities(model, ids)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))
    difference = (plain - log_probabilities(model, ids)).abs()[plain > math.log(1e-6)]
    print(f"largest {difference.max().item():.3f}, mean {difference.mean().item():.4f}")


if __name__ == "__main__":
    main()
