"""What keys and values lose by GPTQ when tokens count the same, and when they count as attention looks at them.

    python token_weights.py MODEL CALIBRATION TEXT [--sequences 6] [--windows 2] [--bits 4]

A GPTQ of its own (groups of 128, damping 0.01, asymmetric grids, inputs of the full model), of one kind of layers in all
blocks at a time, all else in full precision. Prints KL(full || quantized) in nats per token by plain rounding, and by GPTQ on
`sum w_t x_t x_t^T`: w_t = 1, and for keys `sum P (1 - P)`, for values `sum P^2` over the shares P that heads and queries give
to token t, or the exact `X^T P^T P X`. Llama's layout only. Needs torch and transformers.
"""

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LENGTH = 2048
GROUP = 128
DAMPING = 0.01


def cut(tokenizer, path, count):
    with open(path, encoding="utf-8") as file:
        ids = tokenizer(file.read(count * LENGTH * 16), add_special_tokens=False).input_ids
    return torch.tensor(ids[: count * LENGTH]).view(count, LENGTH)


@torch.no_grad()
def hessians(model, sequences):
    """Of each block and way of weighing."""
    sums, inputs = {}, {}

    def show(index):
        def hook(_, __, kwargs):
            inputs[index] = kwargs["hidden_states"][0]

        return hook

    def see(index):
        def hook(_, __, output):
            x, shares = inputs[index], output[1][0]
            add = lambda way, value: sums.__setitem__((index, way), sums.get((index, way), 0) + value)
            add("equal", x.T @ x)
            for way, weights in [("values", shares.square()), ("keys", shares * (1 - shares))]:
                add(way, (x * weights.sum((0, 1))[:, None]).T @ x)
            for share in shares:
                mixed = share @ x
                add("exact", mixed.T @ mixed)

        return hook

    for index, layer in enumerate(model.model.layers):
        layer.self_attn.register_forward_pre_hook(show(index), with_kwargs=True)
        layer.self_attn.register_forward_hook(see(index))
    for sequence in sequences:
        model.model(sequence[None])
    for layer in model.model.layers:
        layer.self_attn._forward_hooks.clear()
        layer.self_attn._forward_pre_hooks.clear()
    return sums


def grid(weights, bits):
    low, high = weights.amin(1).clamp(max=0), weights.amax(1).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).half().float().clamp(min=1e-8)
    return scale, (-low / scale).round()


def rounded(weights, scale, zero, bits):
    return ((weights / scale + zero).round().clamp(0, 2**bits - 1) - zero) * scale


def round_plainly(weight, bits):
    parts = [(part, *grid(part, bits)) for part in weight.split(GROUP, 1)]
    return torch.cat([rounded(part, scale[:, None], zero[:, None], bits) for part, scale, zero in parts], 1)


def gptq(weight, hessian, bits):
    work, result = weight.clone(), torch.zeros_like(weight)
    damped = hessian + DAMPING * hessian.diagonal().mean() * torch.eye(len(hessian))
    factor = torch.linalg.cholesky(torch.linalg.inv(damped.double()), upper=True).float()
    for start in range(0, len(hessian), GROUP):
        end = min(start + GROUP, len(hessian))
        scale, zero = grid(work[:, start:end], bits)
        errors = torch.zeros(len(weight), end - start)
        for column in range(start, end):
            result[:, column] = rounded(work[:, column], scale, zero, bits)
            error = (work[:, column] - result[:, column]) / factor[column, column]
            work[:, column:end] -= error[:, None] * factor[column, column:end]
            errors[:, column - start] = error
        work[:, end:] -= errors @ factor[start:end, end:]
    return result


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("calibration")
    parser.add_argument("text")
    parser.add_argument("--sequences", type=int, default=6)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--bits", type=int, default=4)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    # only the plain attention gives its shares
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager")
    sums = hessians(model, cut(tokenizer, args.calibration, args.sequences))
    windows = cut(tokenizer, args.text, args.windows)
    predict = lambda: [torch.log_softmax(model(window[None]).logits[0, :-1], -1) for window in windows]
    full = predict()
    for kind, ways in [("k_proj", ["keys"]), ("v_proj", ["values", "exact"])]:
        layers = [getattr(layer.self_attn, kind) for layer in model.model.layers]
        originals = [layer.weight.data for layer in layers]

        def measure(name, quantize):
            for index, (layer, original) in enumerate(zip(layers, originals)):
                layer.weight.data = quantize(original, index)
            pairs = zip(full, predict())
            kl = torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in pairs]).mean()
            print(f"{kind}, {args.bits} bits, {name}: KL {kl:.4f}", flush=True)

        measure("rounded", lambda weight, _: round_plainly(weight, args.bits))
        for way in ["equal", *ways]:
            measure(f"GPTQ, {way}", lambda weight, index: gptq(weight, sums[(index, way)], args.bits))
        for layer, original in zip(layers, originals):
            layer.weight.data = original


main()
