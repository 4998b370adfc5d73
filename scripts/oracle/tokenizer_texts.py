"""Texts on which tokenizers are known to differ, for token_ids.py. No unpaired surrogates: Python cannot encode them."""

# what English, code and a chat prompt look like, for real vocabularies
PROSE = [
    "",
    " ",
    "a",
    "Hello, world!",
    " leading and trailing ",
    "The quick brown fox jumps over the lazy dog. It's 3:45pm; they'll say \"we've won\" — won't they?",
    "I'M SHOUTING, YOU'RE NOT, IT'S HE'D'VE 'S 's ’s it'\u017f",
    "unbelievably antidisestablishmentarianism Donaudampfschifffahrtsgesellschaftskapitän",
    "CamelCase snake_case kebab-case SCREAMING_SNAKE x1y2z3 HTTPServer2Go",
    "def f(x: int) -> int:\n    if x <= 1:\n        return 1\n    return x * f(x - 1)  # n!\n",
    "for (let i = 0; i < n; ++i) {\n\tconsole.log(`${i}: ${a[i] ?? 'none'}`);\r\n}\r\n",
    "https://example.org/a/b?c=d&e=%20f#g  user@example.org  C:\\dir\\file.txt",
    "<html><body class=\"x\">&amp; &lt;</body></html>",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n- [ ] item\n* **bold**\n",
    "$e^{i\\pi} + 1 = 0$, \u2211\u1d62 x\u1d62\u00b2 \u2264 \u221e, \u00bd \u2153 \u2168 \u2460 x\u00b2",
]

WHITESPACE = [
    "  two",
    "   three   spaces   between",
    "a" + " " * 17 + "b",
    " " * 40,
    "\n",
    "\n\n\n",
    "a\nb\n\nc\n\n\nd",
    "\ttab\t\ttabs \t mixed \t",
    "cr\rlf\ncrlf\r\n\r\nend \r\n",
    " \n \n  x \n",
    "no\u00a0break\u2003em\u2009thin\u3000ideographic\u200bzero\u2028line\u2029par\u0085nel",
    "\ufeffbyte order mark",
    "mid\ufeff\ufeff mark \ufeff \ufeff\n",
    "\x0bvertical\x0cform\x1cfile",
]

DIGITS = [
    "0123456789",
    "1 12 123 1234 12345 1234567890123456789",
    "3.14159 1,000,000 1e-10 0x1F 2024-02-29T12:34:56Z",
    "\u0661\u0662\u0663\u0664 \u0967\u0968\u0969 \uff11\uff12 \u4e00\u4e8c\u4e09",
]

SCRIPTS = [
    "Übergrößenträger naïve façade Ångström ÿ ŒUVRE",
    "e\u0301le\u0300ve cafe\u0301 A\u030a n\u0303 o\u0308\u0304",
    "\u1e9b\u0323 \ufb01n \u2126 \u212b \uff26\uff35\uff2c\uff2c \u2460",
    "Привет, мир! Ёлка ΌΔΟΣ ΟΔΟΣ ὈΔΥΣΣΕΎΣ İstanbul ISPARTA ıi",
    "你好，世界！今天天气很好。我在北京。",
    "日本語のテキスト、カタカナとひらがな。ﾊﾝｶｸ が が",
    "안녕하세요 세계 \u1112\u1161\u11ab",
    "السَّلَامُ عَلَيْكُمْ مرحبا بالعالم ١٢٣",
    "שָׁלוֹם עולם",
    "नमस्ते दुनिया क्षत्रिय",
    "สวัสดีชาวโลก",
    "ከአማርኛ ᏣᎳᎩ ꦗꦮ \U00010330\U00010331 \U00020000\U0002a6d6",
    "𝓗𝓮𝓵𝓵𝓸 𝟙𝟚𝟛",
    "mixed中文and英文123混合テスト",
]

SYMBOLS = [
    "🙂😀🎉",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇫🇷 1️⃣ ❤️",
    "family:👨‍👩‍👧.end",
    "!!! ??? ... ,,, --- === *** ### ((())) [[]] {{}}",
    "…–—‘’“”«»„‚¿¡§¶†‡•",
    "\x00\x01\x7f\x80\x9f",
    "\ue000\uf8ff\ufffd\U000f0000\U0010fffd",
    "\u0378 \U0003fffd unassigned",
    "▁▁ meta ▁space ▁▁▁x",
    "Ġ Ċ ĉ Â looks like bytes",
    "<0x0A> <0xE2><0x82> </w> ## ##x",
    "\u0301 starts with a mark",
    "z\u0301\u0302\u0303\u0304\u0305\u0306\u0307algo",
]

SPECIAL = [
    "<s>a</s> <s> b </s>",
    "<unk> x<unk>y <pad>",
    "<|endoftext|>a <|endoftext|> <|endoftext|>b<|endoftext|><|endoftext|>",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    "[INST] Hi [/INST] ok</s>[INST]x[/INST]",
    "<|user|>\nHi<|end|>\n<|assistant|>\n",
    "<|start|>user<|message|>Hi<|end|> <|endoftext",
    "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>",
    "<h1>\n\n\n\n</h1>   <table><td>",
]

LONG = [
    "a" * 600,
    "ab" * 200,
    "=" * 301 + " " * 299,
    "\n" * 130,
    "哈" * 150,
    "🙂" * 60,
    "7" * 100,
    "x" * 40 + " " + "Aa1!" * 80,
]

HARD_TEXTS = PROSE + WHITESPACE + DIGITS + SCRIPTS + SYMBOLS + SPECIAL + LONG

# a few letters only, so that tiny vocabularies do not know all of them
GRID_TEXTS = [
    "",
    " ",
    "abc",
    "ab abc  abcab",
    " a b   cab ",
    "cab-bac_abc.a,b;;c!?",
    "a\nb\n\nc\tab\r\ncab \n",
    "ABC Abc aBC ΟΔΟΣ İ",
    "äbc a\u0308bc é e\u0301 ﬁ ａ Å",
    "日本 本日ab日 a日b",
    "12 a1b22 ½٣Ⅷ 3x",
    "xyz x qq axb aqqb",
    "🙂a🙂🙂b",
    "\ufeffab\ufeff\u0085c\u00a0a\u3000b\u200bc",
    "a\u0301\u0302b",
    "▁a▁▁b ▁ab",
    "<unk>a <unk>",
    "$& $1 a.b a+b (ab)",
    "a" * 60,
    "abcabcabc" * 4 + "x" + "ab" * 10,
    "   ",
    "-a--b---c-",
    "a \ufffd\x00\x07b",
    "日\u200d本 Ａｂ ㍿ ～a～",
    "a\u017fbSs\u212aakKb",
]
