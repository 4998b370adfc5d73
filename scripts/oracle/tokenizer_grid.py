"""The features of tokenizer.json, one by one, over tiny vocabularies: the cases of test/model/tokenizers/grid.json."""

import base64
import json
import struct

from tokenizers import Tokenizer, models, normalizers, trainers

from tokenizer_texts import GRID_TEXTS

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def added(content, id, **flags):
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": id, "content": content, **plain, **flags}


def trained(model, trainer, spaces=None):
    """A model learned from the grid's own texts, nothing split, so that tokens reach over every border."""
    tokenizer = Tokenizer(model)
    if spaces:
        tokenizer.normalizer = normalizers.Replace(" ", spaces)
    tokenizer.train_from_iterator([text for text in GRID_TEXTS if "<unk>" not in text for _ in range(2)], trainer)
    return json.loads(tokenizer.to_str())["model"]


def with_bytes(model):
    vocab = dict(model["vocab"])
    for byte in BYTES:
        vocab.setdefault(byte, len(vocab))
    return {**model, "vocab": vocab, "byte_fallback": True}


def make_models():
    """The tiny vocabularies; what training learns is not the same twice, so grid.json keeps those it has."""
    # the alphabet is cut to its most frequent letters, so that some letters of the texts are unknown
    size = {"vocab_size": 110, "limit_alphabet": 34, "min_frequency": 2, "show_progress": False}
    bpe = trained(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(special_tokens=["<unk>"], **size))
    spaced = trained(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(special_tokens=["<unk>"], **size), "▁")
    prefixed = trained(
        models.BPE(unk_token="<unk>", continuing_subword_prefix="##"),
        trainers.BpeTrainer(special_tokens=["<unk>"], continuing_subword_prefix="##", **size),
    )
    suffixed = trained(
        models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
        trainers.BpeTrainer(special_tokens=["<unk>"], end_of_word_suffix="</w>", **size),
    )
    wordpiece = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 20,
        "vocab": numbered(
            "[UNK] a b c ab abc A Abc ##a ##b ##c ##ab ##bc ##cab . , ; ! ? - _ ##- ##. ##_ 1 2 ##1 ##2 本 日 ##本 é ##é x ##x "
            "½ ٣ $ ##$ ab- ##-b e ##e i ##i ο δ ος ##ο ##δ ##σ ##ς".split(" ")
        ),
    }
    unigram = trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=80, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False, n_sub_iterations=1
        ),
        "▁",
    )
    # rare letters taken out again, and pieces that reach over words put in
    rare = set("🙂٣ⅧΟΔΣ日éａ㍿")
    pieces = [[piece, score] for piece, score in unigram["vocab"] if not rare & set(piece)]
    pieces += [["▁a▁b", -2.5], ["b▁ab", -3.0], ["▁ab▁", -3.25], ["ab", -4.0], ["abc", -4.5], ["▁", -3.5]]
    unigram["vocab"] = unique(pieces)
    bytes_pieces = [[byte, -9.0] for byte in BYTES]
    return {
        "bpe": bpe,
        "bpe fused": {**bpe, "fuse_unk": True},
        "bpe without unknown": {**bpe, "unk_token": None},
        "bpe ignoring merges": {**bpe, "ignore_merges": True, "merges": bpe["merges"][5:] + bpe["merges"][:2]},
        "bpe spaced": spaced,
        "bpe spaced fused": {**spaced, "fuse_unk": True},
        "bpe spaced bytes": with_bytes({**spaced, "fuse_unk": True}),
        "bpe some bytes": with_some_bytes({**spaced, "fuse_unk": True}),
        "bpe bytes without unknown": with_some_bytes({**spaced, "unk_token": None}),
        "bpe prefixed": prefixed,
        "bpe suffixed": suffixed,
        "bpe suffixed fused": {**suffixed, "fuse_unk": True},
        "bpe empty affixes": {**bpe, "continuing_subword_prefix": "", "end_of_word_suffix": ""},
        "bpe dropout": {**bpe, "dropout": 0.5},
        "bpe no dropout": {**bpe, "dropout": 0.0},
        "bpe old merges": {**bpe, "merges": [" ".join(pair) for pair in bpe["merges"] if " " not in "".join(pair)]},
        "bpe unknown is a letter": {**bpe, "unk_token": "a", "fuse_unk": True},
        "bpe unknown missing": {**bpe, "unk_token": "[UNK]"},
        "bpe merges unknown": {
            **bpe, "vocab": {**bpe["vocab"], "<unk>a": len(bpe["vocab"])}, "merges": [["<unk>", "a"], *bpe["merges"]]
        },
        "bpe merges bytes": merging_bytes(with_bytes(spaced)),
        "byte level": byte_level(),
        "wordpiece": wordpiece,
        "wordpiece other prefix": {**wordpiece, "continuing_subword_prefix": "", "max_input_chars_per_word": 4},
        "wordpiece unknown missing": {**wordpiece, "unk_token": "<unk>"},
        "wordlevel": {"type": "WordLevel", "unk_token": "<unk>", "vocab": numbered("<unk> a b c ab abc cab . - abc. 日本 12".split())},
        "wordlevel unknown missing": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": numbered("<unk> a b c ab".split())},
        "unigram": unigram,
        "unigram bytes": {**unigram, "vocab": unigram["vocab"] + bytes_pieces, "byte_fallback": True},
        "unigram some bytes": {**unigram, "vocab": unigram["vocab"] + bytes_pieces[:200], "byte_fallback": True},
        "unigram without unknown": {**unigram, "unk_id": None},
    }


def with_some_bytes(model):
    """Not all bytes are there: letters that need a missing one are unknown."""
    vocab = dict(model["vocab"])
    for byte in BYTES[:160] + BYTES[0xC0:0xF0]:
        vocab.setdefault(byte, len(vocab))
    return {**model, "vocab": vocab, "byte_fallback": True}


def merging_bytes(model):
    vocab = dict(model["vocab"])
    vocab["<0xF0><0x9F>"] = len(vocab)
    return {**model, "vocab": vocab, "merges": [["<0xF0>", "<0x9F>"], *model["merges"]]}


def byte_level():
    from tokenizers import pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator([text for text in GRID_TEXTS for _ in range(2)], trainer)
    return json.loads(tokenizer.to_str())["model"]


def numbered(tokens):
    return {token: id for id, token in enumerate(tokens)}


def unique(pieces):
    seen = {}
    for piece, score in pieces:
        seen.setdefault(piece, score)
    return [[piece, score] for piece, score in seen.items()]


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(*parts, kind="pretokenizers"):
    return {"type": "Sequence", kind: list(parts)}


BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PLAIN_BYTES = {**BYTE_LEVEL, "use_regex": False}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}

# the rules by which models of today split, as their tokenizer.json has them
CL100K = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
TEKKEN = (
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = TEKKEN.replace("]+|[^", f"]+{CONTRACTIONS}|[^", 1).replace("]*|\\p{N}|", f"]*{CONTRACTIONS}|\\p{{N}}{{1,3}}|")
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"


def pre_tokenizers_of_grid():
    cases = {}
    for behavior in BEHAVIORS:
        for invert in (False, True):
            side = " inverted" if invert else ""
            cases[f"Split space {behavior}{side}"] = split({"String": " "}, behavior, invert)
            cases[f"Split run {behavior}{side}"] = split({"Regex": "[ab]+|-"}, behavior, invert)
        cases[f"Split empty match {behavior}"] = split({"Regex": "b*"}, behavior)
        cases[f"Punctuation {behavior}"] = {"type": "Punctuation", "behavior": behavior}
    return {
        **cases,
        "Split empty string": split({"String": ""}, "Isolated"),
        "Split before": split({"Regex": "(?=a)"}, "Isolated"),
        "Split dot string": split({"String": "."}, "Isolated"),
        "Split possessive": split({"Regex": "\\s++$|[^\\s]++"}, "Isolated"),
        "Split atomic": split({"Regex": "(?>a|ab)c|b"}, "Isolated"),
        "Split case": split({"Regex": "(?i:a|bC)"}, "Isolated"),
        "Split case of s and k": split({"Regex": "(?i:[r-t]|k)|s"}, "Removed"),
        "Split repeated group": split({"Regex": "(e+)+$"}, "Isolated"),
        "Split named group": split({"Regex": "(?<x>a)\\k<x>"}, "Isolated"),
        "Split flags": split({"Regex": "(?m:a.)"}, "Isolated"),
        "Split intersection": split({"Regex": "[\\p{L}&&[^a本]]+"}, "Isolated"),
        "Split classes": split({"Regex": "\\w+|\\d|\\s|[[:punct:]]"}, "Isolated"),
        "Split word border": split({"Regex": "\\b"}, "Isolated"),
        "Split lines": split({"Regex": "^.|.$"}, "Isolated"),
        "Split CL100K": split({"Regex": CL100K}, "Removed", True),
        "Split TEKKEN": split({"Regex": TEKKEN}, "Isolated"),
        "Split BLOOM": split({"Regex": BLOOM}, "Isolated"),
        "Punctuation": {"type": "Punctuation"},
        "Whitespace": {"type": "Whitespace"},
        "WhitespaceSplit": {"type": "WhitespaceSplit"},
        "BertPreTokenizer": {"type": "BertPreTokenizer"},
        "Digits": {"type": "Digits", "individual_digits": False},
        "Digits individual": {"type": "Digits", "individual_digits": True},
        "CharDelimiterSplit": {"type": "CharDelimiterSplit", "delimiter": "b"},
        "FixedLength": {"type": "FixedLength", "length": 3},
        "UnicodeScripts": {"type": "UnicodeScripts"},
        "Metaspace": METASPACE,
        "Metaspace first": {**METASPACE, "prepend_scheme": "first"},
        "Metaspace never": {**METASPACE, "prepend_scheme": "never"},
        "Metaspace whole": {**METASPACE, "split": False},
        "Metaspace whole first": {**METASPACE, "split": False, "prepend_scheme": "first"},
        "Metaspace old": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
        "Metaspace old without prefix": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": False},
        "Metaspace underscore": {**METASPACE, "replacement": "_"},
        "Sequence": sequence({"type": "Digits", "individual_digits": True}, {"type": "WhitespaceSplit"}, {"type": "Punctuation"}),
        "Sequence Metaspace": sequence({"type": "WhitespaceSplit"}, METASPACE),
        "Sequence Metaspace first": sequence({"type": "WhitespaceSplit"}, {**METASPACE, "prepend_scheme": "first"}),
        "Sequence empty": sequence(),
    }


def byte_pre_tokenizers():
    return {
        "ByteLevel": BYTE_LEVEL,
        "ByteLevel prefix": {**BYTE_LEVEL, "add_prefix_space": True},
        "ByteLevel whole": PLAIN_BYTES,
        "ByteLevel whole prefix": {**PLAIN_BYTES, "add_prefix_space": True},
        "Llama 3": sequence(split({"Regex": CL100K}, "Isolated"), PLAIN_BYTES),
        "Qwen 3": sequence(split({"Regex": CL100K.replace("{1,3}", "")}, "Isolated"), PLAIN_BYTES),
        "Mistral Nemo": sequence(split({"Regex": TEKKEN}, "Isolated"), PLAIN_BYTES),
        "gpt-oss": sequence(split({"Regex": O200K}, "Isolated"), PLAIN_BYTES),
        "OLMo 2": sequence(split({"Regex": CL100K}, "Removed", True), PLAIN_BYTES),
        "SmolLM": sequence({"type": "Digits", "individual_digits": True}, BYTE_LEVEL),
        "DeepSeek": sequence(
            split({"Regex": "\\p{N}{1,3}"}, "Isolated"),
            split({"Regex": "[一-龥぀-ゟ゠-ヿ]+"}, "Isolated"),
            split(
                {
                    "Regex": "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
                },
                "Isolated",
            ),
            PLAIN_BYTES,
        ),
        "Bloom": sequence(split({"Regex": BLOOM}, "Isolated"), PLAIN_BYTES),
        "StarCoder": sequence(
            {"type": "Digits", "individual_digits": True},
            {**BYTE_LEVEL, "add_prefix_space": False},
        ),
        "Punctuation and bytes": sequence({"type": "Punctuation", "behavior": "Contiguous"}, BYTE_LEVEL),
    }


def bert(**flags):
    default = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return {"type": "BertNormalizer", **default, **flags}


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def charsmap():
    """A tiny precompiled map in SentencePiece's form: a trie of double arrays, then the replacements."""
    rules = {"ﬁ".encode(): b"fi", "ａ".encode(): b"a", "Å".encode(): "Å".encode(), b"\t": b" ", b"qq": b"Q", "\ufeff".encode(): b""}
    strings, offsets = b"", {}
    for key, value in rules.items():
        offsets[key] = len(strings)
        strings += value + b"\0"
    return base64.b64encode(struct.pack("<I", 4 * len(units := double_array(rules, offsets))) + struct.pack(f"<{len(units)}I", *units) + strings).decode()


def double_array(rules, offsets):
    """Darts-clone's units: a leaf holds the value with the top bit, a node its label, its offset and whether it has a leaf."""
    size = 4096
    units, used = [0] * size, [False] * size
    used[0] = True

    def place(prefix, position):
        children = sorted({key[len(prefix)] for key in rules if len(key) > len(prefix) and key.startswith(prefix)})
        labels = ([0] if prefix in rules else []) + children
        # the offset is stored as an exclusive or with the node's own position
        base = next(b for b in range(1, size - 256) if not any(used[b ^ label] for label in labels))
        for label in labels:
            used[base ^ label] = True
        units[position] |= ((base ^ position) << 10) | ((prefix in rules) << 8)
        if prefix in rules:
            units[base] = offsets[prefix] | 1 << 31
        for label in children:
            units[base ^ label] |= label
            place(prefix + bytes([label]), base ^ label)

    place(b"", 0)
    return units


def normalizers_of_grid():
    return {
        "NFC": {"type": "NFC"},
        "NFD": {"type": "NFD"},
        "NFKC": {"type": "NFKC"},
        "NFKD": {"type": "NFKD"},
        "Nmt": {"type": "Nmt"},
        "Lowercase": {"type": "Lowercase"},
        "Strip": {"type": "Strip", "strip_left": True, "strip_right": True},
        "Strip left": {"type": "Strip", "strip_left": True, "strip_right": False},
        "Strip right": {"type": "Strip", "strip_left": False, "strip_right": True},
        "StripAccents": {"type": "StripAccents"},
        "NFD StripAccents": sequence({"type": "NFD"}, {"type": "StripAccents"}, kind="normalizers"),
        "Prepend": {"type": "Prepend", "prepend": "▁"},
        "Replace": replace({"String": " "}, "▁"),
        "Replace dollar": replace({"String": "a"}, "$&b"),
        "Replace special": replace({"String": "a.b"}, "c"),
        "Replace run": replace({"Regex": " {2,}"}, " "),
        "Replace empty": replace({"Regex": "b*"}, "-"),
        "Replace group": replace({"Regex": "(a)(b)"}, "$2$1"),
        "BertNormalizer": bert(),
        "BertNormalizer cased": bert(lowercase=False),
        "BertNormalizer accents": bert(strip_accents=False),
        "BertNormalizer only accents": bert(lowercase=False, strip_accents=True, clean_text=False, handle_chinese_chars=False),
        "BertNormalizer nothing": bert(lowercase=False, strip_accents=False, clean_text=False, handle_chinese_chars=False),
        "ByteLevel": {"type": "ByteLevel"},
        "Precompiled": {"type": "Precompiled", "precompiled_charsmap": charsmap()},
        "Sequence": sequence({"type": "NFKC"}, {"type": "Lowercase"}, replace({"String": "b"}, "c"), kind="normalizers"),
        "Sequence empty": sequence(kind="normalizers"),
        "Llama 2": sequence({"type": "Prepend", "prepend": "▁"}, replace({"String": " "}, "▁"), kind="normalizers"),
    }


def decoders_of_grid():
    llama = [replace({"String": "▁"}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return {
        "bpe spaced bytes": {
            "none": None,
            "ByteFallback": {"type": "ByteFallback"},
            "Fuse": {"type": "Fuse"},
            "Replace": replace({"String": "▁"}, " "),
            "Replace regex": replace({"Regex": "▁+"}, "$& "),
            "Strip": {"type": "Strip", "content": "▁", "start": 2, "stop": 0},
            "Llama 2": sequence(*llama, {"type": "Strip", "content": " ", "start": 1, "stop": 0}, kind="decoders"),
            "Gemma": sequence(*llama, kind="decoders"),
            "Metaspace": metaspace,
            "Metaspace never": {**metaspace, "prepend_scheme": "never"},
            "Metaspace first": {**metaspace, "prepend_scheme": "first"},
            "ByteLevel": BYTE_LEVEL,
            "CTC": {"type": "CTC", "pad_token": "a", "word_delimiter_token": "▁", "cleanup": True},
        },
        "byte level": {"ByteLevel": BYTE_LEVEL},
        "wordpiece": {
            "WordPiece": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "WordPiece plain": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        },
        "bpe suffixed": {"none": None, "BPEDecoder": {"type": "BPEDecoder", "suffix": "</w>"}},
    }


def definition(model, **parts):
    empty = {"added_tokens": [], "normalizer": None, "pre_tokenizer": None, "decoder": None, "post_processor": None}
    return {"model": model, **empty, **parts}


# the reference gives other ids each time
LEFT_TO_CHANCE = ("model: bpe dropout", "model: bpe dropout, words", "added: same when normalized")


def cases_of_grid(vocabularies):
    """Name, definition (its model by name) and kind of each case."""
    for name in vocabularies:
        pre = BYTE_LEVEL if name == "byte level" else None
        yield f"model: {name}", definition(name, pre_tokenizer=pre)
        if not name.startswith("byte"):
            yield f"model: {name}, words", definition(name, pre_tokenizer={"type": "WhitespaceSplit"})
    for name, part in pre_tokenizers_of_grid().items():
        model = "bpe spaced" if "Metaspace" in name else "bpe"
        yield f"pre_tokenizer: {name}", definition(model, pre_tokenizer=part)
        if "Metaspace" in name:
            yield f"pre_tokenizer: {name}, unigram", definition("unigram", pre_tokenizer=part)
    for name, part in byte_pre_tokenizers().items():
        yield f"pre_tokenizer: {name}", definition("byte level", pre_tokenizer=part)
    for name, part in normalizers_of_grid().items():
        model = "bpe spaced fused" if name in ("Llama 2", "Prepend", "Replace") else "bpe"
        model = "byte level" if name == "ByteLevel" else model
        yield f"normalizer: {name}", definition(model, normalizer=part)
    yield "model: Gemma 3", definition(
        "bpe spaced bytes",
        normalizer=replace({"String": " "}, "▁"),
        pre_tokenizer=split({"String": " "}, "MergedWithPrevious"),
    )
    yield "normalizer: Precompiled, unigram", definition(
        "unigram bytes", normalizer=normalizers_of_grid()["Precompiled"], pre_tokenizer=METASPACE
    )
    for model, parts in decoders_of_grid().items():
        for name, part in parts.items():
            pre = PLAIN_BYTES if model == "byte level" else None
            yield f"decoder: {name} of {model}", definition(model, decoder=part, pre_tokenizer=pre)
    for name, case in added_token_cases(vocabularies):
        yield f"added: {name}", case


def added_token_cases(vocabularies):
    def tokens(model, *wanted):
        """Added tokens, with the ids that the reference gives them; each is its content, or that and flags."""
        vocab, free = dict(vocabularies[model]["vocab"]), len(vocabularies[model]["vocab"])
        made = []
        for content, flags in (each if isinstance(each, tuple) else (each, {}) for each in wanted):
            if content not in vocab:
                vocab[content], free = free, free + 1
            made.append(added(content, vocab[content], **flags))
        return {"added_tokens": made}

    def bpe(*wanted, **parts):
        return definition("bpe", **tokens("bpe", *wanted), **parts)

    def spaced(*wanted, **parts):
        return definition("bpe spaced fused", **tokens("bpe spaced fused", *wanted), **parts)

    lower = {"type": "Lowercase"}
    single, left, right = {"single_word": True}, {"lstrip": True}, {"rstrip": True}
    normalized, plain = {"normalized": True}, {"normalized": True, "special": False}
    yield "unknown", bpe("<unk>")
    yield "inside words", bpe("<unk>", "ab", "q")
    yield "longest", bpe("a", "abc", "abca", "abcabcabcabcx")
    yield "single_word", bpe(("ab", single), ("日", single), ("-", single))
    yield "lstrip", bpe(("ab", left))
    yield "rstrip", bpe(("ab", right))
    yield "both strips", bpe(("b", {**left, **right}), ("a", left))
    yield "single_word and strips", bpe(("ab", {**single, **left, **right}))
    yield "rstrip before a space", bpe(("ab", right), " a", "\n")
    yield "normalized", bpe(("AB", plain), normalizer=lower)
    yield "not normalized", bpe("AB", normalizer=lower)
    yield "normalized without normalizer", bpe(("abc", normalized), "ab")
    yield "overlap of both kinds", bpe(("abc", normalized), "b", normalizer=lower)
    yield "same when normalized", bpe(("AB", plain), ("ab", normalized), normalizer=lower)
    yield "empty", definition("bpe", added_tokens=[added("", 0)])
    yield "with Llama 2", spaced("<unk>", "ab", ("cab", normalized), normalizer=normalizers_of_grid()["Llama 2"])
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    shortening = {
        "Strip": strip,
        "StripAccents": sequence({"type": "NFD"}, {"type": "StripAccents"}, kind="normalizers"),
        "Replace": replace({"Regex": "^ +"}, ""),
        "Replace run": replace({"Regex": "[ab ]{2,}"}, "c"),
        "Replace one": replace({"String": "a"}, "cc"),
        "Precompiled": {"type": "Precompiled", "precompiled_charsmap": charsmap()},
        "BertNormalizer": bert(),
        "Nmt": {"type": "Nmt"},
        "Prepend": sequence(strip, {"type": "Prepend", "prepend": "b"}, kind="normalizers"),
    }
    for scheme in ("first", "always", "never"):
        metaspace = {**METASPACE, "prepend_scheme": scheme, "split": False}
        yield f"with Metaspace {scheme}", spaced("<unk>", "ab", ("c", normalized), pre_tokenizer=metaspace)
        for name, normalizer in shortening.items() if scheme == "first" else [("Strip", strip)]:
            parts = {"normalizer": normalizer, "pre_tokenizer": metaspace}
            yield f"with Metaspace {scheme} and {name}", spaced(("ab", right), **parts)
            yield f"none, with Metaspace {scheme} and {name}", spaced(**parts)
    prefix = {"pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True}, "decoder": BYTE_LEVEL}
    yield "with ByteLevel", definition("byte level", **tokens("byte level", "ab", "日", "<s>", "Ġ"), **prefix)
    whitespace = {"pre_tokenizer": {"type": "Whitespace"}}
    yield "to WordLevel", definition("wordlevel", **tokens("wordlevel", "abc", "x"), **whitespace)
    yield "with other ids", definition("bpe", added_tokens=[added("bc", 77), added("ab", 78)])
    yield "with a gap", definition("bpe", added_tokens=[added("zz", 1000)])
    yield "template", bpe(
        "<unk>",
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<unk>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<unk>": {"id": "<unk>", "ids": [0], "tokens": ["<unk>"]}},
        },
    )
