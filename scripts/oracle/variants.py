"""The tiny models of test/model/families/fixtures: small, but with every branch of each family in use.

A variant is the raw `config.json` as the hub would spell it, and options:
  raw     keep config.json as spelled here (otherwise what save_pretrained writes)
  inputs  store the inputs of linear layers (off where only the rotary embedding is new)
  seed    the variant whose weights are used too
  extra   tensors that published checkpoints hold and no one needs, with * for the block
"""

BASE = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=None,
    tie_word_embeddings=False,
    rope_theta=10000.0,
)

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "olmo3": "Olmo3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "stablelm": "StableLmForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "olmoe": "OlmoeForCausalLM",
}

VARIANTS = {}


def add(name, model_type, raw=False, inputs=True, seed=None, extra=(), drop=(), **config):
    merged = {"architectures": [ARCHITECTURES[model_type]], "model_type": model_type, **BASE, **config}
    for key in drop:
        del merged[key]
    VARIANTS[name] = dict(config=merged, raw=raw, inputs=inputs, extra=extra, seed=seed or name)


LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)

# Early checkpoints also hold the frequencies of the rotary embedding
add("llama-mha", "llama", extra=["model.layers.*.self_attn.rotary_emb.inv_freq"], num_key_value_heads=4, rms_norm_eps=1e-6)
add("llama-llama3", "llama", inputs=False, tie_word_embeddings=True, max_position_embeddings=128, rope_scaling=LLAMA3)
add("llama-linear", "llama", inputs=False, rope_scaling=dict(rope_type="linear", factor=4.0))
# dynamic scaling starts beyond max_position_embeddings, so 20 tokens must not fit
add("llama-dynamic", "llama", inputs=False, max_position_embeddings=12, rope_scaling=dict(rope_type="dynamic", factor=2.0))
add(
    "llama-yarn",
    "llama",
    inputs=False,
    max_position_embeddings=32,
    rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=8),
)
add(
    "llama-yarn-mscale",
    "llama",
    inputs=False,
    max_position_embeddings=64,
    rope_scaling=dict(
        rope_type="yarn",
        factor=8.0,
        original_max_position_embeddings=8,
        beta_fast=4.0,
        beta_slow=0.25,
        mscale=1.2,
        mscale_all_dim=0.4,
        truncate=False,
    ),
)
add("llama-bias", "llama", attention_bias=True, mlp_bias=True)
add("llama-head-dim", "llama", inputs=False, head_dim=12, num_key_value_heads=1)
# The same model in the spellings before and after transformers 5
add("llama-spelling-old", "llama", raw=True, inputs=False, torch_dtype="bfloat16", rope_theta=50000.0, rope_scaling=LLAMA3)
add(
    "llama-spelling-new",
    "llama",
    raw=True,
    inputs=False,
    seed="llama-spelling-old",
    drop=("rope_theta",),
    dtype="bfloat16",
    rope_parameters={**LLAMA3, "rope_theta": 50000.0},
)

add("mistral-window", "mistral", sliding_window=7)
add("mistral-full", "mistral", inputs=False, sliding_window=None, head_dim=12, rope_theta=1000000.0)

add("qwen2-tied", "qwen2", sliding_window=7, use_sliding_window=False, max_window_layers=1, tie_word_embeddings=True)
add("qwen2-window", "qwen2", inputs=False, sliding_window=7, use_sliding_window=True, max_window_layers=1)

add("qwen3-tied", "qwen3", head_dim=12, tie_word_embeddings=True, rms_norm_eps=1e-6)
add(
    "qwen3-bias-window",
    "qwen3",
    inputs=False,
    head_dim=8,
    attention_bias=True,
    sliding_window=7,
    use_sliding_window=True,
    max_window_layers=1,
)

add("phi3-window", "phi3", num_key_value_heads=4, sliding_window=7, original_max_position_embeddings=64)
LONGROPE = dict(
    type="longrope",
    short_factor=[1.0, 1.1, 1.2, 1.4, 1.7, 2.0],
    long_factor=[1.1, 1.5, 2.5, 5.0, 9.0, 14.0],
)
PHI4_MINI = dict(num_attention_heads=2, num_key_value_heads=1, partial_rotary_factor=0.75, rope_scaling=LONGROPE)
add(
    "phi3-longrope-long",
    "phi3",
    tie_word_embeddings=True,
    original_max_position_embeddings=8,
    sliding_window=None,
    **PHI4_MINI,
)
add("phi3-longrope-short", "phi3", raw=True, inputs=False, original_max_position_embeddings=32, sliding_window=None, **PHI4_MINI)

GEMMA = dict(tie_word_embeddings=True, rms_norm_eps=1e-6)
add("gemma-mqa", "gemma", head_dim=12, num_key_value_heads=1, hidden_act="gelu_pytorch_tanh", **GEMMA)
# Early releases say "gelu" and mean its tanh form
add("gemma-legacy-act", "gemma", raw=True, inputs=False, head_dim=8, hidden_act="gelu", **GEMMA)
GEMMA2 = dict(
    head_dim=12, query_pre_attn_scalar=20, sliding_window=7, hidden_activation="gelu_pytorch_tanh", **GEMMA
)
add("gemma2-caps", "gemma2", attn_logit_softcapping=2.0, final_logit_softcapping=3.0, **GEMMA2)
add("gemma2-no-caps", "gemma2", inputs=False, attn_logit_softcapping=None, final_logit_softcapping=None, **GEMMA2)
GEMMA3 = {**GEMMA2, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0}
add("gemma3-layer-types", "gemma3_text", sliding_window_pattern=2, **GEMMA3)
add(
    "gemma3-linear",
    "gemma3_text",
    raw=True,
    inputs=False,
    sliding_window_pattern=2,
    rope_scaling=dict(rope_type="linear", factor=8.0),
    **GEMMA3,
)

add("olmo2-gqa", "olmo2", rms_norm_eps=1e-6, rope_theta=500000.0)
OLMO3 = dict(
    rope_theta=500000.0,
    rms_norm_eps=1e-6,
    sliding_window=7,
    layer_types=["sliding_attention", "full_attention"],
)
add("olmo3-window", "olmo3", inputs=False, **OLMO3)
add(
    "olmo3-yarn",
    "olmo3",
    raw=True,
    inputs=False,
    rope_scaling=dict(
        rope_type="yarn",
        factor=8.0,
        original_max_position_embeddings=8,
        attention_factor=1.2079441541679836,
        beta_fast=32.0,
        beta_slow=1.0,
    ),
    **OLMO3,
)

add("smollm3-nope", "smollm3", no_rope_layer_interval=2, tie_word_embeddings=True, rope_theta=2000000.0)
add(
    "smollm3-bias-window",
    "smollm3",
    inputs=False,
    no_rope_layers=[0, 1],
    attention_bias=True,
    mlp_bias=True,
    use_sliding_window=True,
    sliding_window=7,
)

GRANITE = dict(embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.4, logits_scaling=2.5)
add("granite-tied", "granite", tie_word_embeddings=True, **GRANITE)
add("granite-bias", "granite", inputs=False, attention_bias=True, mlp_bias=True, **{**GRANITE, "logits_scaling": 1.5})

STABLELM = dict(layer_norm_eps=1e-5, drop=("rms_norm_eps",))
add("stablelm-plain", "stablelm", num_attention_heads=2, partial_rotary_factor=0.25, **STABLELM)
add("stablelm-bias", "stablelm", inputs=False, use_qkv_bias=True, partial_rotary_factor=0.5, **STABLELM)
add(
    "stablelm-parallel",
    "stablelm",
    use_parallel_residual=True,
    qk_layernorm=True,
    num_attention_heads=4,
    partial_rotary_factor=0.5,
    **STABLELM,
)
add("stablelm-qk-layernorm", "stablelm", inputs=False, qk_layernorm=True, use_qkv_bias=True, partial_rotary_factor=1.0, **STABLELM)

NEOX = dict(
    layer_norm_eps=1e-5, rotary_emb_base=10000, hidden_act="gelu", drop=("rms_norm_eps", "rope_theta", "num_key_value_heads")
)
add(
    "gpt_neox-parallel",
    "gpt_neox",
    raw=True,
    extra=[f"gpt_neox.layers.*.attention.{name}" for name in ("bias", "masked_bias", "rotary_emb.inv_freq")],
     num_attention_heads=2, rotary_pct=0.25, use_parallel_residual=True, **NEOX)
add("gpt_neox-sequential", "gpt_neox", rotary_pct=1.0, use_parallel_residual=False, attention_bias=False, **NEOX)
add("gpt_neox-gelu-new", "gpt_neox", inputs=False, rotary_pct=0.5, **{**NEOX, "hidden_act": "gelu_new"})

MIXTRAL = dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=24)
add("mixtral-full", "mixtral", sliding_window=None, **MIXTRAL)
add("mixtral-window", "mixtral", inputs=False, sliding_window=7, head_dim=12, **{**MIXTRAL, "num_experts_per_tok": 1})

QWEN_MOE = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=16)
add(
    "qwen2_moe-mlp-only",
    "qwen2_moe",
    mlp_only_layers=[1],
    norm_topk_prob=False,
    shared_expert_intermediate_size=24,
    decoder_sparse_step=1,
    **QWEN_MOE,
)
add(
    "qwen2_moe-norm-step",
    "qwen2_moe",
    inputs=False,
    norm_topk_prob=True,
    shared_expert_intermediate_size=24,
    decoder_sparse_step=2,
    qkv_bias=False,
    use_sliding_window=True,
    sliding_window=7,
    max_window_layers=2,
    **QWEN_MOE,
)
add("qwen3_moe-norm", "qwen3_moe", head_dim=12, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], **QWEN_MOE)
add("qwen3_moe-mlp-only", "qwen3_moe", inputs=False, head_dim=8, attention_bias=True, norm_topk_prob=False, mlp_only_layers=[0], **QWEN_MOE)

OLMOE = dict(num_experts=5, num_experts_per_tok=2, intermediate_size=16)
add("olmoe-plain", "olmoe", num_key_value_heads=4, norm_topk_prob=False, clip_qkv=None, **OLMOE)
add("olmoe-clip-norm", "olmoe", inputs=False, norm_topk_prob=True, clip_qkv=0.7, attention_bias=True, **OLMOE)
