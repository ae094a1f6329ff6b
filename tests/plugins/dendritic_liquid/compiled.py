"""Kernels compiled to a GPU's machine code, which needs no GPU: bytes of shared memory that a
program takes, as JSON.

A process of its own, which neither interprets nor is interpreted.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from labctl.registry.registry import Registry

HALF, WHOLE = "*bf16", "*fp32"
HEADS = ((32, 32, 0), (32, 64, 0), (64, 64, 64))
"""Size of a head, rows of its two tiles."""


def shared(
    kernel: Any, warps: int, given: dict[str, str], constants: dict[str, Any], cc: int
) -> int:
    """In bytes, for a compute capability such as 90."""
    signature = {**given, "count": "i32", **dict.fromkeys(constants, "constexpr")}
    aligned = {(place,): [["tt.divisibility", 16]] for place in range(len(given))}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    compiled = triton.compile(
        source, target=GPUTarget("cuda", cc, 32), options={"num_warps": warps}
    )
    assert compiled.asm["cubin"]
    taken: int = compiled.metadata.shared
    return taken


def main(plugins: Path) -> None:
    Registry(plugins).load("dendritic_liquid")
    operators, attention, weighing, gate = (
        importlib.import_module(f"labctl_plugins.dendritic_liquid.{name}")
        for name in ("operators", "kernels.attention", "kernels.importance", "kernels.gate")
    )
    taken: dict[str, int] = {}

    def take(
        name: str, kernel: Any, warps: int, given: dict[str, str], constants: dict[str, Any]
    ) -> None:
        for cc in (89, 90):
            taken[f"{name} {cc}"] = shared(kernel, warps, given, constants, cc)

    for size, rows, rest in HEADS:
        warps = attention._warps(rows)
        for masked in (False, True):
            name, weights = f"{masked} {size} {rows} {rest}", WHOLE if masked else HALF
            tiles = {"HEADS": 8, "SIZE": size, "SCALE": 0.25, "ROWS": rows, "REST": rest}
            tiles["MASKED"] = masked
            given = {"heads": HALF, "key_weights": weights, "mixed": HALF}
            take(f"forward {name}", attention._forward, warps, given, tiles)
            given = {"heads": HALF, "key_weights": weights, "gradient": HALF, "result": HALF}
            given["of_weights"] = weights
            tiles["UNIT"] = 1.0
            take(f"backward {name}", attention._backward, warps, given, tiles)
    given = dict.fromkeys(("tokens", "branches", "branches_bias", "weight", "bias"), HALF)
    given["result"] = WHOLE
    for branches, hidden in ((4, 32), (8, operators.MOST_UNITS // 8)):
        sizes = {"WIDTH": 256, "BRANCHES": branches, "HIDDEN": hidden}
        tiles = {"TOKENS": weighing.TOKENS, "CHANNELS": weighing.CHANNELS, **sizes}
        name = f"importance {branches} {hidden}"
        take(name, weighing._importance, weighing.WARPS, given, tiles)
    names = ("read", "halfway", "change", "share", "backbone", "backbone_bias", "heads")
    given = dict.fromkeys((*names, "heads_bias", "time", "scale", "result"), HALF)
    given |= {"share": WHOLE, "time": WHOLE}
    for hidden in (40, operators.WIDEST_GATE):
        main, rest = gate.tiles(hidden)
        sizes = {"WIDTH": 256, "HIDDEN": hidden, "MAIN": main, "REST": rest}
        tiles = {"TOKENS": gate.TOKENS, "READ": gate.READ, "WRITTEN": gate.WRITTEN, **sizes}
        take(f"gate {hidden}", gate._gated, gate.WARPS, given, tiles)
    json.dump(taken, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
