"""Runs the code of docs/python.md: Python's transformers loads the embedded model as `gptvq dequantize` writes it, in shards and
in its own dtype, and writes what `gptvq run` writes.

    python scripts/oracle/python_page.py

Needs Node and `npm ci`.
"""

import contextlib
import io
import json
import re
import subprocess
import tempfile
from pathlib import Path

from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
MODEL = "examples/models/tiny-llama"


def gptvq(*args):
    command = ["npx", "tsx", "src/cli/main.ts", *args]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def dtypes(folder):
    found = set()
    for shard in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            found |= {file.get_slice(name).get_dtype() for name in file.keys()}
    return found


def main():
    page = (ROOT / "docs" / "python.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    with tempfile.TemporaryDirectory() as place:
        quantized, plain = f"{place}/quantized", f"{place}/plain"
        gptvq("quantize", MODEL, "--method", "rtn", "--bits", "4", "--out", quantized)
        gptvq("dequantize", quantized, "--out", plain, "--max-shard-bytes", "2MB")
        shards = len(set(json.loads(Path(plain, "model.safetensors.index.json").read_text())["weight_map"].values()))
        if dtypes(plain) != dtypes(ROOT / MODEL) or shards < 2:
            raise SystemExit(f"dtypes {dtypes(plain)}, expected {dtypes(ROOT / MODEL)}; {shards} shards")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code.replace("path/to/plain", plain), {})  # noqa: S102
        theirs = printed.getvalue().strip()
        ours = json.loads(gptvq("run", plain, "--prompt", "The king", "--temperature", "0", "--max-tokens", "24", "--json"))
        text = "The king" + ours["text"]
        if theirs != text.strip():
            raise SystemExit(f"transformers writes {theirs!r}, gptvq {text!r}")
        print(f"{shards} shards of {sorted(dtypes(plain))}: {theirs!r}")


main()
