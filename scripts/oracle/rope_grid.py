"""The configurations of rope-golden.json: every family, spelling and kind of rotary embedding."""

from variants import ARCHITECTURES

FACTORS = dict(
    short_factor=[1.0, 1.1, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0], long_factor=[1.1, 1.5, 2.5, 5.0, 9.0, 14.0, 20.0, 30.0]
)
BANDS = dict(low_freq_factor=1.0, high_freq_factor=4.0)
ORIGINAL = dict(original_max_position_embeddings=16)
KINDS = {
    "default": dict(rope_type="default"),
    "linear": dict(rope_type="linear", factor=4.0),
    "dynamic": dict(rope_type="dynamic", factor=2.0),
    "llama3": dict(rope_type="llama3", factor=8.0, **BANDS, **ORIGINAL),
    "yarn": dict(rope_type="yarn", factor=4.0, **ORIGINAL),
    "longrope": dict(rope_type="longrope", **FACTORS, **ORIGINAL),
}
MOE = {
    # Without head_dim its config holds null, on which several kinds fail
    "mixtral": dict(head_dim=16, num_local_experts=2, num_experts_per_tok=1),
    "qwen2_moe": dict(num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8, shared_expert_intermediate_size=8),
    "qwen3_moe": dict(num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8),
    "olmoe": dict(num_experts=2, num_experts_per_tok=1),
}
# Fields that only some families have; head_dim is 16 everywhere
OWN = {
    **MOE,
    **{family: dict(head_dim=16) for family in ("qwen3", "gemma", "gemma2")},
    "qwen3_moe": dict(head_dim=16, **MOE["qwen3_moe"]),
    "gemma3_text": dict(head_dim=16, sliding_window_pattern=2),
    "olmo3": dict(layer_types=["sliding_attention", "full_attention"]),
}
THETA = {"gpt_neox": "rotary_emb_base"}
SHARE = {"gpt_neox": "rotary_pct"}
PARTIAL = ("phi3", "stablelm", "gpt_neox")


def config(family, **fields):
    """Of the least fields a reader of the family needs, with theta 5000 at top level unless given; None drops a field."""
    heads = {} if family == "gpt_neox" else dict(num_key_value_heads=1)
    fields = {THETA.get(family, "rope_theta"): 5000.0, **fields}
    if family == "phi3":
        fields = {"original_max_position_embeddings": 16, **fields}
    if family in ("stablelm", "gpt_neox"):
        fields = {SHARE.get(family, "partial_rotary_factor"): 1.0, **fields}
    base = dict(
        model_type=family,
        vocab_size=16,
        hidden_size=32,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        **heads,
        max_position_embeddings=64,
        **OWN.get(family, {}),
    )
    return {key: value for key, value in {**base, **fields}.items() if value != "drop"}


def families():
    for family in ARCHITECTURES:
        for kind, scaling in KINDS.items():
            lengths = (12, 40) if kind == "longrope" else (80,) if kind == "dynamic" else (40,)
            for length in lengths:
                yield f"{family}: rope_scaling {kind} at {length}", config(family, rope_scaling=scaling), length
        for kind in ("default", "linear", "yarn"):
            parameters = {**KINDS[kind], "rope_theta": 3000.0}
            yield f"{family}: rope_parameters {kind}", config(family, rope_theta="drop", rope_parameters=parameters), 40
        dropped = {THETA.get(family, "rope_theta"): "drop"}
        yield f"{family}: no theta", config(family, **dropped), 40
        yield f"{family}: rope_scaling null", config(family, rope_scaling=None), 40
        yield f"{family}: rope_scaling linear by type", config(family, rope_scaling=dict(type="linear", factor=4.0)), 40


def spellings():
    """How a field may be spelled, for a family that does nothing of its own."""
    yield "rope_parameters null", dict(rope_parameters=None), 40
    yield "rope_scaling empty", dict(rope_scaling={}), 40
    yield "rope_parameters empty", dict(rope_parameters={}), 40
    yield "theta null", dict(rope_theta=None), 40
    yield "theta as an integer", dict(rope_theta=5000), 40
    yield "rope_parameters of theta alone", dict(rope_theta="drop", rope_parameters=dict(rope_theta=3000.0)), 40
    for kind, scaling in KINDS.items():
        length = 80 if kind == "dynamic" else 40
        rest = {key: value for key, value in scaling.items() if key != "rope_type"}
        without = {key: value for key, value in rest.items() if key not in ORIGINAL}
        typed = dict(type=kind, **rest)
        yield f"rope_scaling type {kind}", dict(rope_scaling=typed), length
        yield f"type and rope_type {kind}", dict(rope_scaling={**typed, "rope_type": kind}), length
        if kind != "default":
            yield f"rope_type {kind}, type default", dict(rope_scaling={**scaling, "type": "default"}), length
            yield f"rope_type default, type {kind}", dict(rope_scaling={**typed, "rope_type": "default"}), length
        yield f"rope_parameters {kind}, theta inside", dict(
            rope_theta="drop", rope_parameters={**scaling, "rope_theta": 3000.0}
        ), length
        yield f"rope_parameters type {kind}", dict(rope_parameters=typed), length
        yield f"rope_parameters {kind}, theta at top", dict(rope_parameters=scaling), length
        yield f"rope_parameters {kind}, theta in both", dict(rope_parameters={**scaling, "rope_theta": 3000.0}), length
        yield f"rope_scaling {kind}, theta in both", dict(rope_scaling={**scaling, "rope_theta": 3000.0}), length
        yield f"rope_scaling {kind} over rope_parameters", dict(
            rope_scaling=scaling, rope_parameters=dict(rope_type="linear", factor=3.0, rope_theta=3000.0)
        ), length
        yield f"rope_parameters {kind} under empty rope_scaling", dict(rope_scaling={}, rope_parameters=scaling), length
        if kind == "default":
            continue
        yield f"{kind} without a type", dict(rope_scaling=rest), length
        if kind != "longrope":
            no_factor = {key: value for key, value in scaling.items() if key != "factor"}
            yield f"{kind} without factor", dict(rope_scaling=no_factor), length
            yield f"{kind}, factor null", dict(rope_scaling={**scaling, "factor": None}), length
            yield f"{kind}, factor 1", dict(rope_scaling={**scaling, "factor": 1}), length
            yield f"{kind}, factor 0.5", dict(rope_scaling={**scaling, "factor": 0.5}), length
            yield f"{kind}, factor a string", dict(rope_scaling={**scaling, "factor": "4.0"}), length
        top = dict(original_max_position_embeddings=32)
        unset = {**without, "rope_type": kind}
        yield f"{kind}, original length at top", dict(rope_scaling=unset, **top), length
        yield f"{kind}, original length in both", dict(rope_scaling=scaling, **top), length
        yield f"{kind}, original length in both, rope_parameters", dict(rope_parameters=scaling, **top), length
        yield f"{kind}, no original length", dict(rope_scaling=unset), length
        yield f"{kind}, partial_rotary_factor at top", dict(rope_scaling=scaling, partial_rotary_factor=0.5), length
    yield "unknown kind", dict(rope_scaling=dict(rope_type="spiral", factor=2.0)), 40
    yield "an unknown key", dict(rope_scaling=dict(rope_type="linear", factor=2.0, colour="red")), 40
    yield "dynamic within the length", dict(rope_scaling=KINDS["dynamic"]), 40
    yield "dynamic with alpha", dict(rope_scaling=dict(type="dynamic", factor=1.0, alpha=1000.0)), 80
    yield "default, partial_rotary_factor at top", dict(partial_rotary_factor=0.5), 40
    yield "default, partial_rotary_factor inside", dict(rope_parameters=dict(rope_type="default", partial_rotary_factor=0.5)), 40


def details():
    yarn = [
        dict(beta_fast=8.0),
        dict(beta_slow=0.25),
        dict(beta_fast=4, beta_slow=0.5),
        dict(beta_fast=1.0, beta_slow=2.0),
        dict(beta_fast=None, beta_slow=None),
        dict(beta_fast=0, beta_slow=0),
        dict(mscale=0.8),
        dict(mscale_all_dim=0.8),
        dict(mscale=1.0, mscale_all_dim=1.0),
        dict(mscale=0.707, mscale_all_dim=1.0),
        dict(mscale=1.0, mscale_all_dim=0),
        dict(attention_factor=0.9),
        dict(attention_factor=1),
        dict(attention_factor=None),
        dict(attention_factor=0.9, mscale=0.707, mscale_all_dim=1.0),
        dict(truncate=False),
        dict(truncate=True),
        dict(truncate=False, beta_fast=4.0, beta_slow=0.25),
        dict(finetuned=True),
        dict(original_max_position_embeddings=64),
        dict(original_max_position_embeddings=1000),
    ]
    for options in yarn:
        yield f"yarn {options}", dict(rope_scaling={**KINDS["yarn"], **options}), 40
    long = [
        dict(factor=4.0),
        dict(factor=2.0),
        dict(factor=1.0),
        dict(factor=None),
        dict(attention_factor=1.3),
        dict(attention_factor=1),
        dict(attention_factor=None),
        dict(short_mscale=1.1, long_mscale=1.2),
        dict(original_max_position_embeddings=64),
        dict(original_max_position_embeddings=128),
        dict(long_factor=[1.0, 2.0]),
        dict(long_factor=None),
    ]
    for options in long:
        yield f"longrope {options}", dict(rope_scaling={**KINDS["longrope"], **options}), 40
    yield "longrope at its original length", dict(rope_scaling=KINDS["longrope"]), 16
    yield "longrope one beyond its original length", dict(rope_scaling=KINDS["longrope"]), 17
    for options in (dict(low_freq_factor=4.0), dict(low_freq_factor=8.0), dict(high_freq_factor=1.5), dict(**ORIGINAL, factor=32.0), dict(original_max_position_embeddings=200)):
        yield f"llama3 {options}", dict(rope_scaling={**KINDS["llama3"], **options}), 40


def own_ways():
    """What single families do in their own way."""
    half = {name: value[:4] for name, value in FACTORS.items()}
    for family in PARTIAL:
        share = SHARE.get(family, "partial_rotary_factor")
        given = {"rope_parameters": dict(rope_type="default", rope_theta=3000.0, partial_rotary_factor=0.5)}
        yield f"{family}: share at top", config(family, **{share: 0.5}), 40
        yield f"{family}: no share", config(family, **{share: "drop"}), 40
        yield f"{family}: share inside", config(family, **{share: "drop", **given}), 40
        yield f"{family}: share inside and at top", config(family, **{share: 0.25, **given}), 40
        for kind in ("linear", "dynamic", "llama3", "yarn"):
            yield f"{family}: {kind}, share at top", config(family, rope_scaling=KINDS[kind], **{share: 0.5}), 80
        for length in (12, 40):
            scaling = {**KINDS["longrope"], **half}
            yield f"{family}: longrope, share at top, at {length}", config(family, rope_scaling=scaling, **{share: 0.5}), length
    for kind in ("su", "yarn", "longrope"):
        scaling = dict(type=kind, **FACTORS)
        yield f"phi3: {kind} with short and long", config("phi3", rope_scaling=scaling), 40
    yield "phi3: no original length", config("phi3", rope_scaling=dict(type="longrope", **FACTORS), original_max_position_embeddings="drop"), 40
    yield "phi3: original length 32 at top", config("phi3", rope_scaling=KINDS["longrope"], original_max_position_embeddings=32), 20
    yield "mixtral: yarn, no head_dim", config("mixtral", head_dim="drop", rope_scaling=KINDS["yarn"]), 40
    yield "gpt_neox: rope_theta", config("gpt_neox", rotary_emb_base="drop", rope_theta=3000.0), 40
    yield "gpt_neox: rope_theta and rotary_emb_base", config("gpt_neox", rope_theta=3000.0), 40
    yield "gpt_neox: partial_rotary_factor", config("gpt_neox", rotary_pct="drop", partial_rotary_factor=0.5), 40
    full, local = dict(KINDS["linear"], rope_theta=3000.0), dict(rope_type="default", rope_theta=700.0)
    for family in ("gemma3_text", "olmo3", "mistral", "qwen2", "qwen3", "gemma2", "smollm3"):
        nested = dict(full_attention=full, sliding_attention=local)
        yield f"{family}: nested", config(family, rope_theta="drop", rope_parameters=nested), 40
        yield f"{family}: nested, theta at top", config(family, rope_parameters=nested), 40
    for family in ("gemma3_text", "olmo3"):
        yield f"{family}: local theta", config(family, rope_local_base_freq=700.0), 40
        yield f"{family}: nested, full only", config(family, rope_parameters=dict(full_attention=full)), 40
        yield f"{family}: nested, sliding only", config(family, rope_parameters=dict(sliding_attention=local)), 40
        yield f"{family}: nested, sliding null", config(family, rope_parameters=dict(full_attention=full, sliding_attention=None)), 40
        for kind in ("linear", "yarn", "llama3", "dynamic"):
            inner = dict(full_attention=KINDS[kind], sliding_attention=dict(rope_type="default"))
            yield f"{family}: nested {kind}, theta at top", config(family, rope_parameters=inner), 80
            both = dict(full_attention=KINDS[kind], sliding_attention=KINDS[kind])
            yield f"{family}: nested {kind} in both", config(family, rope_theta="drop", rope_parameters=both), 80
        yield f"{family}: nested under rope_scaling", config(
            family, rope_parameters=dict(full_attention=local, sliding_attention=local), rope_scaling=KINDS["linear"]
        ), 40
        yield f"{family}: flat rope_parameters", config(family, rope_parameters=full), 40
        unset = {key: value for key, value in KINDS["yarn"].items() if key not in ORIGINAL}
        yield f"{family}: yarn, no original length", config(family, rope_scaling=unset), 40
        yield f"{family}: yarn, original length at top", config(family, rope_scaling=unset, **ORIGINAL), 40


def grid():
    yield from families()
    for name, fields, length in (*spellings(), *details()):
        yield f"llama: {name}", config("llama", **fields), length
    yield from own_ways()
