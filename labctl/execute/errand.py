"""A piece of work for a process of its own, which is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.store.atomic import storage, write_json


def carried_out(
    module: str, order: Mapping[str, Any], log: Path, environment: Mapping[str, str]
) -> int:
    """Have `python -m module ORDER` carry out an order; its exit code. It does not outlive this
    process's interruption.

    Args:
        order: written as JSON to `order.json` beside the log, whose path is the argument.
        log: takes all that the process prints.
        environment: laid over this process's own.
    """
    path = log.with_name("order.json")
    write_json(path, dict(order), durable=False)
    with storage(log), log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
        )
        try:
            return process.wait()
        finally:
            process.kill()
            process.wait()
