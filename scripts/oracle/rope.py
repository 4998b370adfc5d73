"""Writes test/model/families/rope-golden.json: the rotary embeddings that transformers makes of config.json.

    python scripts/oracle/rope.py

Each configuration goes through a real config.json, a model of random weights and one pass over `length` tokens; the
frequencies are those the model then holds. `refused` says at which step transformers gave up.
"""

import json
import logging
import re
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from rope_grid import grid

TARGET = Path(__file__).resolve().parents[2] / "test" / "model" / "families" / "rope-golden.json"
MESSAGE_LENGTH = 110


def tidy(text):
    """On one line, sets in order (their order changes from run to run), and not too long."""
    text = re.sub(r"\{('[^}]*)\}", lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", " ".join(text.split()))
    return text.removeprefix("Class validation error for validator 'validate_rope': ")[:MESSAGE_LENGTH]


class Listener(logging.Handler):
    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        text = tidy(record.getMessage())
        # Not about rotary embeddings
        if text not in self.said and ("rope" in text.lower() or "factor" in text):
            self.said.append(text)


def listen():
    transformers_logging.disable_progress_bar()
    logger = logging.getLogger("transformers")
    logger.handlers.clear()
    listener = Listener()
    logger.addHandler(listener)
    return listener


def compute(raw, length):
    """The model's rotary embedding after a pass over `length` tokens, or the step at which transformers refused."""
    step = "config"
    try:
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "config.json").write_text(json.dumps(raw))
            config = AutoConfig.from_pretrained(place)
        step = "model"
        # Not every family's default fits 16 tokens
        config.pad_token_id = None
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        step = "forward"
        with torch.no_grad():
            model(torch.arange(length)[None] % raw["vocab_size"], use_cache=False)
    except Exception as error:
        return f"{step}: {tidy(str(error))}", None
    return None, (model.gpt_neox if hasattr(model, "gpt_neox") else model.model).rotary_emb


def short(value):
    """The least digits that give the same float32 back."""
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if torch.tensor(float(text), dtype=torch.float32).item() == value:
            return float(text)
    return value


def described(rotary, prefix):
    factor = getattr(rotary, f"{prefix}attention_scaling")
    return {
        "inverseFrequencies": [short(value) for value in getattr(rotary, f"{prefix}inv_freq").tolist()],
        "attentionFactor": float(factor),
    }


def entries(listener):
    for name, raw, length in grid():
        listener.said.clear()
        transformers_logging.warning_once.cache_clear()
        refused, rotary = compute(raw, length)
        common = {"name": name, "config": raw, "length": length}
        said = {"warnings": list(listener.said)} if listener.said else {}
        if refused:
            yield {**common, "refused": refused, **said}
        elif isinstance(rotary.rope_type, dict):
            for layer in rotary.rope_type:
                yield {**common, "layer": layer, **described(rotary, f"{layer}_"), **said}
        else:
            yield {**common, **described(rotary, ""), **said}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    found = list(entries(listen()))
    names = {(entry["name"], entry.get("layer")) for entry in found}
    assert len(names) == len(found), "two entries have the same name"
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in found)
    TARGET.write_text(f"[\n{lines}\n]\n")
    refused = sum("refused" in entry for entry in found)
    print(f"{len(found)} entries, {refused} refused, {TARGET.stat().st_size / 1024:.0f} KB, transformers {transformers.__version__}")
