"""Names that every MLflow store takes."""

from __future__ import annotations

import hashlib
import re

LENGTH = 250
"""Longest key of a metric, parameter or tag, in characters."""


def legal(name: str) -> str:
    """`name` itself if MLflow takes it, else something close to it that no other name becomes.

    MLflow takes letters, digits, `_`, `-`, `.`, space and `/`, if the name is not another path than
    it seems (`a//b`, `../a`, `..a`). A changed name ends with six hex digits of the digest of the
    old one: `acc@1` and `acc=1` stay two curves.
    """
    parts = re.sub(r"[^A-Za-z0-9_./ -]", "_", name).split("/")
    tidy = "/".join(re.sub(r"^\.\.", "_", part) for part in parts if part not in ("", "."))
    if tidy == name and 0 < len(name) <= LENGTH:
        return name
    suffix = "-" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:6]
    return tidy[: LENGTH - len(suffix)] + suffix
