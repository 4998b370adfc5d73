"""What a rotation of the residual stream does to rounded weights and activations.

    python rotation.py MODEL TEXT [--windows 8] [--seeds 2]

Norms are folded into the layers behind them, and embedding, head and all layers are multiplied by a random orthogonal
matrix (a Hadamard matrix of the largest power of two in the width, times a random one of what is left), values and what
reads them by one of the head's width: QuaRot and SpinQuant less what has to be done while the model runs. Weights are
rounded per channel on symmetric grids, by the scale of the least squared error, inputs per token. Prints KL(full ||
rounded) in nats per token, plain and rotated. Llama's layout only. Needs torch and transformers.
"""

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW = 256
CANDIDATES = 10
SCHEMES = [(4, 16), (8, 8), (4, 8), (8, 4), (4, 4)]


def hadamard(size):
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / size**0.5


def rotation(size):
    power = size & -size
    rest, _ = torch.linalg.qr(torch.randn(size // power, size // power, dtype=torch.float64))
    signs = torch.randint(0, 2, (size, 1)) * 2.0 - 1
    return signs * torch.kron(rest.contiguous(), hadamard(power))


@torch.no_grad()
def rotate(model):
    """Rotates a model in place; what it computes stays."""
    base, config = model.model, model.config
    width, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    wide, narrow = rotation(width), rotation(head)
    base.embed_tokens.weight.data = (base.embed_tokens.weight.double() @ wide).float()
    for layer in base.layers:
        attention, mlp = layer.self_attn, layer.mlp
        norms = [
            (layer.input_layernorm, [attention.q_proj, attention.k_proj, attention.v_proj]),
            (layer.post_attention_layernorm, [mlp.gate_proj, mlp.up_proj]),
        ]
        for norm, readers in norms:
            fold(norm, readers, wide)
        for writer in (attention.o_proj, mlp.down_proj):
            writer.weight.data = (wide.T @ writer.weight.double()).float()
        values = attention.v_proj.weight.double().view(-1, head, width)
        attention.v_proj.weight.data = (narrow.T @ values).reshape(-1, width).float()
        reads = attention.o_proj.weight.double().view(width, -1, head)
        attention.o_proj.weight.data = (reads @ narrow).reshape(width, width).float()
    fold(base.norm, [model.lm_head], wide)


def fold(norm, readers, wide):
    for reader in readers:
        reader.weight.data = (reader.weight.double() * norm.weight.double() @ wide).float()
    norm.weight.data = torch.ones_like(norm.weight)


def round_weight(weight, bits):
    top = 2 ** (bits - 1)
    span = torch.maximum(weight.amax(1, True) / (top - 1), -weight.amin(1, True) / top)
    best, least = weight, torch.full_like(span, torch.inf)
    for share in range(CANDIDATES, 0, -1):
        scale = span * share / CANDIDATES
        rounded = (weight / scale).round().clamp(-top, top - 1) * scale
        error = (rounded - weight).square().sum(1, True)
        best, least = torch.where(error < least, rounded, best), torch.minimum(error, least)
    return best


def round_inputs(values, bits):
    low, high = values.amin(-1, True).clamp(max=0), values.amax(-1, True).clamp(min=0)
    scale = (high - low).clamp(min=1e-12) / (2**bits - 1)
    zero = (-low / scale).round()
    return (((values / scale).round() + zero).clamp(0, 2**bits - 1) - zero) * scale


@torch.no_grad()
def divergences(model, windows, full):
    """KL of each scheme; the weights are those of the model again afterwards."""
    layers = [layer for name, layer in model.named_modules() if name.endswith("_proj")]
    kept = [layer.weight.data for layer in layers]
    found, rounded = [], {}
    for bits, input_bits in SCHEMES:
        if bits not in rounded:
            rounded = {bits: [round_weight(weight, bits) for weight in kept]}
        for layer, weight in zip(layers, rounded[bits]):
            layer.weight.data = weight
        hooks = [
            layer.register_forward_pre_hook(lambda _, given: (round_inputs(given[0], input_bits),))
            for layer in layers
            if input_bits < 16
        ]
        found.append(divergence(model, windows, full))
        for hook in hooks:
            hook.remove()
        for layer, weight in zip(layers, kept):
            layer.weight.data = weight
    return [divergence(model, windows, full), *found]


def divergence(model, windows, full):
    total = 0.0
    for window, expected in zip(windows, full):
        logits = model(window[None]).logits[0].log_softmax(-1)
        total += (expected.exp() * (expected - logits)).sum(-1).mean().item()
    return total / len(windows)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(given.model)

    def load():
        model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
        # a head that is tied to the embedding is another matrix once the last norm is folded into it
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.data.clone())
        return model

    with open(given.text, encoding="utf-8") as file:
        text = file.read(given.windows * WINDOW * 8)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[0]
    windows = list(ids[: given.windows * WINDOW].view(-1, WINDOW))
    plain = load()
    full = [plain(window[None]).logits[0].log_softmax(-1) for window in windows]
    names = ["unrounded", *(f"w{bits}a{inputs}" for bits, inputs in SCHEMES)]
    print("| | " + " | ".join(names) + " |")
    print_row("plain", divergences(plain, windows, full))
    for seed in range(given.seeds):
        torch.manual_seed(seed)
        rotated = load()
        rotate(rotated)
        print_row(f"rotated, seed {seed}", divergences(rotated, windows, full))


def print_row(name, found):
    print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in found) + " |", flush=True)


main()
