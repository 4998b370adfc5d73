"""Writes models of one block at the width of published models, and what transformers computes with them.

    python scripts/oracle/true_width.py [--folder /tmp/gptvq-oracle/true-width] [name ...]

One folder for each name: config.json, model.safetensors (BF16, random weights) and oracle.safetensors (float32: tokens 1 x 64,
hidden.0, hidden.1, logits, and for routed models route.0.*). The vocabulary is cut to 512, mixtral to 4 experts; the
factors of longrope are made up. Together about 6 GB; one model at a time is in memory, at most 5 GB.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from capture import capture
from fixtures import METADATA, generator, load, randomize
from variants import ARCHITECTURES

LENGTH = 64
COMMON = dict(vocab_size=512, num_hidden_layers=1, bos_token_id=1, eos_token_id=2, pad_token_id=None)


def shape(model_type, hidden, inner, heads, kv_heads, positions, **fields):
    if kv_heads:
        fields["num_key_value_heads"] = kv_heads
    return dict(
        architectures=[ARCHITECTURES[model_type]],
        model_type=model_type,
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        max_position_embeddings=positions,
        **COMMON,
        **fields,
    )


def rms(eps, theta, tied=False):
    return dict(rms_norm_eps=eps, rope_theta=theta, tie_word_embeddings=tied)


GEMMA_HEADS = dict(head_dim=256, query_pre_attn_scalar=256, hidden_activation="gelu_pytorch_tanh")
LLAMA3 = dict(
    rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
)
LONGROPE = dict(
    type="longrope",
    short_factor=[1 + 0.02 * index for index in range(48)],
    long_factor=[1 + 1.3 * index for index in range(48)],
)
NO_WINDOW = dict(use_sliding_window=False, sliding_window=None)

MODELS = {
    "llama-3.2-1b": shape("llama", 2048, 8192, 32, 8, 131072, **rms(1e-5, 500000.0, True), head_dim=64, rope_scaling=LLAMA3),
    "mistral-7b": shape("mistral", 4096, 14336, 32, 8, 32768, **rms(1e-5, 10000.0), sliding_window=4096),
    "qwen2.5-0.5b": shape("qwen2", 896, 4864, 14, 2, 32768, **rms(1e-6, 1000000.0, True), **NO_WINDOW),
    "qwen3-0.6b": shape("qwen3", 1024, 3072, 16, 8, 40960, **rms(1e-6, 1000000.0, True), head_dim=128, **NO_WINDOW),
    "phi-3.5-mini": shape(
        "phi3",
        3072,
        8192,
        32,
        32,
        131072,
        **rms(1e-5, 10000.0),
        original_max_position_embeddings=4096,
        sliding_window=262144,
        rope_scaling=LONGROPE,
    ),
    "gemma-2b": shape("gemma", 2048, 16384, 8, 1, 8192, **rms(1e-6, 10000.0, True), head_dim=256, hidden_act="gelu_pytorch_tanh"),
    "gemma-2-2b": shape(
        "gemma2",
        2304,
        9216,
        8,
        4,
        8192,
        **rms(1e-6, 10000.0, True),
        **GEMMA_HEADS,
        sliding_window=4096,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    ),
    "gemma-3-1b": shape(
        "gemma3_text",
        1152,
        6912,
        4,
        1,
        32768,
        **rms(1e-6, 1000000.0, True),
        **GEMMA_HEADS,
        sliding_window=512,
        sliding_window_pattern=6,
        rope_local_base_freq=10000.0,
    ),
    "olmo2-1b": shape("olmo2", 2048, 8192, 16, 16, 4096, **rms(1e-6, 500000.0)),
    "smollm3-3b": shape("smollm3", 2048, 11008, 16, 4, 65536, **rms(1e-6, 5000000.0, True), no_rope_layers=[1]),
    "granite-3-2b": shape(
        "granite",
        2048,
        8192,
        32,
        8,
        4096,
        **rms(1e-5, 10000.0, True),
        embedding_multiplier=12.0,
        attention_multiplier=0.015625,
        residual_multiplier=0.22,
        logits_scaling=8.0,
    ),
    "stablelm-2-1.6b": shape(
        "stablelm", 2048, 5632, 32, 32, 4096, layer_norm_eps=1e-5, rope_theta=10000.0, partial_rotary_factor=0.25, use_qkv_bias=True
    ),
    "pythia-410m": shape(
        "gpt_neox", 1024, 4096, 16, None, 2048, layer_norm_eps=1e-5, rotary_emb_base=10000, rotary_pct=0.25, hidden_act="gelu"
    ),
    "olmoe-1b-7b": shape(
        "olmoe", 2048, 1024, 16, 16, 4096, **rms(1e-5, 10000.0), num_experts=64, num_experts_per_tok=8, norm_topk_prob=False
    ),
    "qwen1.5-moe-a2.7b": shape(
        "qwen2_moe",
        2048,
        5632,
        16,
        16,
        8192,
        **rms(1e-6, 1000000.0),
        moe_intermediate_size=1408,
        shared_expert_intermediate_size=5632,
        num_experts=60,
        num_experts_per_tok=4,
        norm_topk_prob=False,
    ),
    "qwen3-30b-a3b": shape(
        "qwen3_moe",
        2048,
        6144,
        32,
        4,
        40960,
        **rms(1e-6, 1000000.0),
        head_dim=128,
        moe_intermediate_size=768,
        num_experts=128,
        num_experts_per_tok=8,
        norm_topk_prob=True,
    ),
    "mixtral-8x7b": shape(
        "mixtral", 4096, 14336, 32, 8, 32768, **rms(1e-5, 1000000.0), num_local_experts=4, num_experts_per_tok=2
    ),
}


def write_model(folder, raw, name):
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "config.json").write_text(json.dumps(raw))
        config = AutoConfig.from_pretrained(place)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.to_empty(device="cpu")
    # Buffers of the rotary embedding hold nothing now; the file does not either
    model.tie_weights()
    randomize(model, name)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "config.json").write_text(json.dumps({**raw, "torch_dtype": "bfloat16"}, indent=2) + "\n")


def route_margin(model):
    """Fills a list with the least gap between the last chosen expert's logit and the next one's."""
    gaps = []

    def hook(module, _, output):
        ranked = output[0].sort(-1, descending=True).values
        gaps.append((ranked[:, module.top_k - 1] - ranked[:, module.top_k]).min().item())

    for module in model.modules():
        if type(module).__name__.endswith("Router"):
            module.register_forward_hook(hook)
    return gaps


def make(name, root):
    started = time.monotonic()
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_model(folder, MODELS[name], name)
    model = load(folder)
    gaps = route_margin(model)
    for attempt in range(50):
        tokens = torch.randint(3, 512, (1, LENGTH), generator=generator(f"{name} tokens {attempt}"))
        found = capture(model, tokens, inputs=False)
        # Where two experts are as good as equal, another order of summation may choose the other
        if not gaps or gaps[-1] > 1e-4:
            break
    else:
        raise SystemExit(f"{name}: no tokens found whose experts are clear: {gaps}")
    save_file({"tokens": tokens.to(torch.int32), **found}, folder / "oracle.safetensors", metadata=METADATA)
    logits, out = found["logits"], found["hidden.1"]
    assert torch.isfinite(logits).all() and torch.isfinite(out).all(), f"{name}: not finite"
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    print(
        f"{name}: logits {logits.min():.1f} to {logits.max():.1f}, hidden std {found['hidden.0'].std():.2f} to {out.std():.2f}, "
        f"{'router margin %.1e, ' % gaps[-1] if gaps else ''}{size:.0f} MB, {time.monotonic() - started:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MODELS))
    parser.add_argument("--folder", type=Path, default=Path("/tmp/gptvq-oracle/true-width"))
    options = parser.parse_args()
    for name in options.names or MODELS:
        make(name, options.folder)
