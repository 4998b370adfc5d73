"""What transformers makes of configurations: test/model/families/effective-golden.json.

Models are built without memory (torch's meta device), so that values come from the modules that compute and not from
the configuration alone. Besides test/model/families/published.json, each family gets a configuration of its sizes only,
which shows the defaults.
"""

import json
import pathlib
import sys
import warnings

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.activations import GELUActivation, GELUTanh, SiLUActivation, FastGELUActivation, NewGELUActivation

warnings.filterwarnings("ignore")
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "test/model/families"
SIZES = {"hidden_size": 512, "intermediate_size": 64, "num_hidden_layers": 7, "num_attention_heads": 32, "vocab_size": 200000}
FAMILIES = "llama mistral qwen2 qwen3 phi3 gemma gemma2 gemma3_text olmo2 olmo3 smollm3 granite stablelm gpt_neox mixtral qwen2_moe qwen3_moe olmoe".split()


def activation(module):
    for kind, name in (
        (SiLUActivation, "silu"),
        (torch.nn.SiLU, "silu"),
        (GELUActivation, "gelu"),
        (GELUTanh, "gelu-tanh"),
        (FastGELUActivation, "gelu-tanh"),
        (NewGELUActivation, "gelu-tanh"),
    ):
        if isinstance(module, kind):
            return name
    return type(module).__name__


def first(module, names):
    for name in names:
        found = getattr(module, name, None)
        if found is not None:
            return found
    return None


def epsilon(norm):
    return first(norm, ("variance_epsilon", "eps"))


def tensors(model, config):
    """Names and shapes as the hub has them."""
    out = {}
    for name, tensor in model.state_dict().items():
        shape = list(tensor.shape)
        if config.tie_word_embeddings and name == "lm_head.weight":
            continue
        if config.model_type == "gpt_neox":
            name = name.replace("lm_head", "embed_out")
        mixtral = config.model_type == "mixtral"
        if mixtral:
            name = name.replace(".mlp.", ".block_sparse_moe.")
        gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
        if name.endswith("experts.gate_up_proj"):
            for expert in range(shape[0]):
                for part in (gate, up):
                    out[name.replace("gate_up_proj", f"{expert}.{part}.weight")] = [shape[1] // 2, shape[2]]
        elif name.endswith("experts.down_proj"):
            for expert in range(shape[0]):
                out[name.replace("down_proj", f"{expert}.{down}.weight")] = shape[1:]
        else:
            out[name] = shape
    return out


def layer(block, config, index, rotary):
    attention = first(block, ("self_attn", "attention"))
    kind = config.layer_types[index] if getattr(config, "layer_types", None) else None
    if kind is not None and config.model_type != "qwen3_moe":
        window = config.sliding_window if kind == "sliding_attention" else None
    else:
        window = getattr(config, "sliding_window", None)
    turned = getattr(attention, "use_rope", True)
    prefix = f"{kind}_" if hasattr(rotary, f"{kind}_inv_freq") else ""
    frequencies = getattr(rotary, f"{prefix}inv_freq").tolist()
    return {
        "scale": attention.scaling,
        "headDim": first(attention, ("head_dim", "head_size")),
        "window": window,
        "routed": hasattr(block.mlp, "gate") if hasattr(block, "mlp") else True,
        "rotary": [frequencies[0], frequencies[1], frequencies[-1], len(frequencies), getattr(rotary, f"{prefix}attention_scaling")]
        if turned
        else None,
    }


def effective(given, with_tensors):
    config = AutoConfig.for_model(**given) if "architectures" not in given else None
    if config is None:
        kind = given["model_type"]
        config = AutoConfig.for_model(kind).__class__.from_dict(dict(given))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    inner = first(model, ("model", "gpt_neox"))
    rotary = type(inner.rotary_emb)(config)
    blocks = [layer(block, config, index, rotary) for index, block in enumerate(inner.layers)]
    runs = []
    for block in blocks:
        if runs and runs[-1][1] == block:
            runs[-1][0] += 1
        else:
            runs.append([1, block])
    mlp = next((block.mlp for block in inner.layers if hasattr(block, "mlp")))
    act = next(module for name, module in mlp.named_modules() if name.split(".")[-1] in ("act_fn", "activation_fn", "act"))
    embedding = first(inner, ("embed_tokens", "embed_in"))
    eos = config.eos_token_id
    out = {
        "heads": config.num_attention_heads,
        "kvHeads": getattr(config, "num_key_value_heads", config.num_attention_heads),
        "maxPositions": config.max_position_embeddings,
        "epsilon": epsilon(first(inner, ("norm", "final_layer_norm"))),
        "activation": activation(act),
        "tied": config.tie_word_embeddings,
        "bos": config.bos_token_id,
        "eos": eos if isinstance(eos, list) else [] if eos is None else [eos],
        "embeddingScale": getattr(embedding, "scalar_embed_scale", getattr(config, "embedding_multiplier", 1)),
        "logitDivisor": getattr(config, "logits_scaling", 1),
        "logitCap": getattr(config, "final_logit_softcapping", None),
        "scoreCap": getattr(config, "attn_logit_softcapping", None),
        "residualScale": getattr(config, "residual_multiplier", 1),
        "parallel": getattr(config, "use_parallel_residual", False),
        "clip": getattr(config, "clip_qkv", None),
        "layers": runs,
    }
    if any(block["routed"] for block in blocks) and hasattr(config, "num_experts_per_tok"):
        out["experts"] = [
            first(config, ("num_experts", "num_local_experts")),
            config.num_experts_per_tok,
            bool(getattr(config, "norm_topk_prob", True)),
        ]
    if with_tensors:
        out["tensors"] = tensors(model, config)
    return out


def main():
    with_tensors = "--tensors" in sys.argv
    given = json.loads((FOLDER / "published.json").read_text())
    for family in FAMILIES:
        given[family] = {"model_type": family, **SIZES}
    golden = {}
    for name, config in given.items():
        golden[name] = effective(config, with_tensors)
        print(name, file=sys.stderr)
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(value, separators=(',', ':'))}" for name, value in golden.items())
    text = "{\n" + lines + "\n}\n"
    if with_tensors:
        print(text)
    else:
        (FOLDER / "effective-golden.json").write_text(text)


main()
