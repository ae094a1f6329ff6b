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


def shared(kernel: Any, given: dict[str, str], constants: dict[str, Any], cc: int) -> int:
    """In bytes, for a compute capability such as 90."""
    signature = {**given, "count": "i32", **dict.fromkeys(constants, "constexpr")}
    aligned = {(place,): [["tt.divisibility", 16]] for place in range(len(given))}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", cc, 32))
    assert compiled.asm["cubin"]
    taken: int = compiled.metadata.shared
    return taken


def main(plugins: Path) -> None:
    Registry(plugins).load("dendritic_liquid")
    operators, attention, weighing, gate = (
        importlib.import_module(f"labctl_plugins.dendritic_liquid.{name}")
        for name in ("operators", "kernels.attention", "kernels.importance", "kernels.gate")
    )
    kernels: list[tuple[str, Any, dict[str, str], dict[str, Any]]] = []
    for size, rows, rest in HEADS:
        tiles = {"HEADS": 8, "SIZE": size, "SCALE": 0.25, "ROWS": rows, "REST": rest}
        forth = dict.fromkeys(("heads", "mixed"), HALF)
        back = dict.fromkeys(("heads", "gradient", "result"), HALF)
        kernels.append((f"forward {size} {rows} {rest}", attention._forward, forth, tiles))
        kernels.append(
            (f"backward {size} {rows} {rest}", attention._backward, back, {**tiles, "UNIT": 1.0})
        )
    given = dict.fromkeys(("tokens", "branches", "branches_bias", "weight", "bias"), HALF)
    tiles = {"TOKENS": weighing.TOKENS, "CHANNELS": weighing.CHANNELS, "WIDTH": 256}
    for branches, hidden in ((4, 32), (8, operators.MOST_UNITS // 8)):
        sizes = {**tiles, "BRANCHES": branches, "HIDDEN": hidden}
        name = f"importance {branches} {hidden}"
        kernels.append((name, weighing._importance, {**given, "result": WHOLE}, sizes))
    names = ("read", "halfway", "change", "share", "backbone", "backbone_bias", "heads")
    given = dict.fromkeys((*names, "heads_bias", "time", "scale", "result"), HALF)
    given |= {"share": WHOLE, "time": WHOLE}
    tiles = {"TOKENS": gate.TOKENS, "CHANNELS": gate.CHANNELS, "WIDTH": 256}
    for hidden, units in ((40, 64), (operators.WIDEST_GATE, operators.WIDEST_GATE)):
        sizes = {**tiles, "HIDDEN": hidden, "UNITS": units}
        kernels.append((f"gate {hidden}", gate._gated, given, sizes))
    taken = {
        f"{name} {cc}": shared(kernel, given, constants, cc)
        for name, kernel, given, constants in kernels
        for cc in (89, 90)
    }
    json.dump(taken, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
