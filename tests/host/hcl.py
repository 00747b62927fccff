"""Prints the blocks of a directory of Terraform files as JSON: {"resource": {"TYPE.NAME": {…}}, "variable": …}."""

import json
import sys
from pathlib import Path

import hcl2


def plain(value):
    """Without the parser's notes, and with strings that are not quoted."""
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items() if not k.startswith("__")}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, str) and value.startswith('"') and value.endswith('"') and len(value) > 1:
        return json.loads(value)
    return value


blocks = {}
for file in sorted(Path(sys.argv[1]).glob("*.tf")):
    for kind, found in plain(hcl2.loads(file.read_text())).items():
        known = blocks.setdefault(kind, {})
        for block in found:
            depth = {"resource": 2, "data": 2, "variable": 1, "output": 1}.get(kind, 0)
            path = []
            for _ in range(depth):
                ((name, block),) = block.items()
                path.append(name)
            name = ".".join(path)
            assert depth == 0 or name not in known, f"{name} twice"
            known[name] = {**known.get(name, {}), **block}
json.dump(blocks, sys.stdout)
