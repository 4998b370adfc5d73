"""Writes test/model/families/fixtures: tiny random models and what transformers computes with them.

    python scripts/oracle/fixtures.py [variant ...]
"""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from capture import capture
from variants import BASE, VARIANTS

ROOT = Path(__file__).resolve().parents[2] / "test" / "model" / "families" / "fixtures"
logging.disable_progress_bar()
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}
# One entry, since several come in any order, and the same seed should give the same bytes
METADATA = {"made with": ", ".join(f"{name} {version}" for name, version in VERSIONS.items())}


def generator(text):
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big"))


def randomize(model, seed):
    """Weights of a size at which attention is not uniform, every bias and norm matters, and logits spread."""
    one_plus = model.config.model_type.startswith("gemma")
    tied = model.config.tie_word_embeddings
    for name, parameter in model.named_parameters():
        normal = torch.randn(parameter.shape, generator=generator(f"{seed} {name}"))
        if "norm" in name and name.endswith("weight"):
            values = normal * 0.3 + (0 if one_plus else 1)
        elif name.endswith("bias"):
            values = normal * 0.3
        elif name.endswith(("gate.weight", "lm_head.weight", "embed_out.weight")):
            values = normal * 2 / parameter.shape[-1] ** 0.5
        elif "embed" in name:
            # A head that is the same matrix should not give logits that are larger
            values = normal * (0.35 * (32 / parameter.shape[-1]) ** 0.5 if tied else 1)
        else:
            values = normal * 1.4 / parameter.shape[-1] ** 0.5
        parameter.data.copy_(values)


def tokens_for(seed, vocab):
    tokens = torch.randint(3, vocab, (2, 20), generator=generator(f"{seed} tokens"))
    tokens[0, 0] = 1
    return tokens


def load(folder):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    ).eval()


def add_extra(path, config, patterns):
    if not patterns:
        return
    tensors = load_file(path)
    for pattern in patterns:
        for block in range(config.num_hidden_layers):
            width = 1 if pattern.endswith("masked_bias") else 4
            tensors[pattern.replace("*", str(block))] = torch.ones(width, dtype=torch.float32)
    save_file(tensors, path, metadata={"format": "pt"})


def make(name, variant):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "config.json").write_text(json.dumps(variant["config"]))
        config = AutoConfig.from_pretrained(place)
    model = AutoModelForCausalLM.from_config(config)
    randomize(model, variant["seed"])
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    add_extra(folder / "model.safetensors", config, variant["extra"])
    if variant["raw"]:
        (folder / "config.json").write_text(json.dumps(variant["config"], indent=2) + "\n")
    tokens = tokens_for(variant["seed"], config.vocab_size)
    found = {"tokens": tokens.to(torch.int32), **capture(load(folder), tokens, variant["inputs"])}
    save_file(found, folder / "oracle.safetensors", metadata=METADATA)
    return found


INTRODUCTION = """# Tiny models with known answers

Made by `python scripts/oracle/fixtures.py` with torch {torch} and transformers {transformers}; the weights are random.

- `config.json`: as transformers saves it, or as the hub spells it (marked raw below).
- `model.safetensors`: BF16, with the names of published checkpoints.
- `oracle.safetensors`: what transformers computes in float32 with these weights and eager attention.
  `tokens` (batch x length, no padding, each row on its own); `logits`, `hidden.0` (what block 0 gets, after any scale
  of the embedding) to `hidden.N` (what the last block gives, before the last norm), all tokens x width, the rows of the batch
  one after another; in some, `input.<linear>`: what the linear layer of that name gets (q, k, v and gate, up share one
  input, stored under the first; of experts the first two of each block, only the tokens routed to them, in token order), and
  `route.<block>.experts` and `.weights` (tokens x chosen).

Every model has a vocabulary of {vocab_size}, hidden size {hidden_size}, {num_attention_heads} heads, {num_key_value_heads}
key/value heads (gpt_neox: as many as heads) and {num_hidden_layers} blocks, unless the table says otherwise.

| variant | inputs | config.json as given |
| --- | --- | --- |
"""


def describe(variant):
    skip = {"architectures", "model_type"}
    own = {key: value for key, value in variant["config"].items() if key not in skip and BASE.get(key, ...) != value}
    return ("raw: " if variant["raw"] else "") + f"`{json.dumps(own)}`"


def write_readme():
    lines = [
        f"| {name} | {'yes' if variant['inputs'] else ''} | {describe(variant)} |\n" for name, variant in VARIANTS.items()
    ]
    (ROOT / "README.md").write_text(INTRODUCTION.format(**VERSIONS, **BASE) + "".join(lines))


def check_spellings():
    """The same model before and after the change of names in config.json."""
    old, new = (load_file(ROOT / f"llama-spelling-{age}" / "oracle.safetensors") for age in ("old", "new"))
    assert torch.equal(old["logits"], new["logits"]), "the two spellings differ"


def check(name, found):
    logits = found["logits"]
    assert all(torch.isfinite(tensor).all() for tensor in found.values()), f"{name}: not finite"
    assert logits.std() > 0.8, f"{name}: logits too flat: {logits.std()}"
    size = sum(file.stat().st_size for file in (ROOT / name).iterdir())
    print(f"{name}: logits {logits.min():.1f} to {logits.max():.1f}, {size / 1024:.0f} KB", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or VARIANTS:
        check(name, make(name, VARIANTS[name]))
    check_spellings()
    write_readme()
