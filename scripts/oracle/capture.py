"""What a model of transformers computes inside: block inputs and outputs, and the inputs of its linear layers."""

import torch
from torch import nn
from torch.nn import functional as F

# Names of an expert's matrices in checkpoints of the hub: (gate, down). In memory they are fused.
EXPERT_NAMES = {"mixtral": ("w1", "w2")}
DEFAULT_EXPERT_NAMES = ("gate_proj", "down_proj")


def decoder_layers(model):
    return (model.gpt_neox if hasattr(model, "gpt_neox") else model.model).layers


def checkpoint_name(model, name):
    """The module's name in a checkpoint, where it differs from the one in memory."""
    if model.config.model_type == "mixtral":
        return name.replace(".mlp.", ".block_sparse_moe.")
    return name


def rows(tensor):
    return tensor.detach().reshape(-1, tensor.shape[-1]).clone()


def tidy(tensor):
    return (tensor if tensor.dtype == torch.int32 else tensor.float()).contiguous()


def capture(model, tokens, inputs=True):
    """Runs `tokens` (batch x length) and returns named float32 tensors, each tokens x width."""
    found, handles = {}, []
    names = {module: name for name, module in model.named_modules()}
    layers = decoder_layers(model)

    def enter_first(_, args, kwargs):
        found["hidden.0"] = rows(args[0] if args else kwargs["hidden_states"])

    def leave(index):
        def hook(_, args, output):
            found[f"hidden.{index + 1}"] = rows(output[0] if isinstance(output, tuple) else output)

        return hook

    handles.append(layers[0].register_forward_pre_hook(enter_first, with_kwargs=True))
    for index, layer in enumerate(layers):
        handles.append(layer.register_forward_hook(leave(index)))
        for module in layer.modules() if inputs else ():
            if isinstance(module, nn.Linear) and not names[module].endswith("shared_expert_gate"):
                handles.append(linear_hook(model, module, names, found))
            elif hasattr(module, "gate_up_proj") and isinstance(module.gate_up_proj, nn.Parameter):
                handles.append(expert_hook(model, module, names, found))
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits
    for handle in handles:
        handle.remove()
    found["logits"] = rows(logits)
    return {name: tidy(found[name]) for name in sorted(found, key=order)}


def order(name):
    kinds = ("logits", "hidden", "route", "input")
    return kinds.index(name.split(".")[0]), [int(part) if part.isdigit() else part for part in name.split(".")][:2]


def linear_hook(model, module, names, found):
    """Linears of one parent that get the very same tensor (q, k, v; gate, up) are stored once, under the first."""
    name = checkpoint_name(model, names[module])
    parent = model.get_submodule(names[module].rpartition(".")[0])

    def hook(_, args):
        if getattr(parent, "oracle_last_input", None) is not args[0]:
            parent.oracle_last_input = args[0]
            found[f"input.{name}"] = rows(args[0])

    return module.register_forward_pre_hook(hook)


def expert_hook(model, module, names, found, experts=2):
    """Experts are fused in memory; the rows of the first two are picked out, in token order, from what the router chose."""
    name = checkpoint_name(model, names[module])
    gate, down = EXPERT_NAMES.get(model.config.model_type, DEFAULT_EXPERT_NAMES)
    layer = name.split("layers.")[1].split(".")[0]

    def hook(_, args, kwargs):
        hidden, chosen, weights = [*args, *kwargs.values()]
        found[f"route.{layer}.experts"] = chosen.detach().to(torch.int32)
        found[f"route.{layer}.weights"] = weights.detach().clone()
        for expert in range(experts):
            mine = rows(hidden)[(chosen == expert).any(-1)]
            first, second = F.linear(mine, module.gate_up_proj[expert]).chunk(2, dim=-1)
            found[f"input.{name}.{expert}.{gate}"] = mine
            found[f"input.{name}.{expert}.{down}"] = (module.act_fn(first) * second).detach()

    return module.register_forward_pre_hook(hook, with_kwargs=True)
