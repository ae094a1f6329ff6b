from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from labctl.store.lock import FileLock, is_held

HOLD = """
import sys, time
from pathlib import Path
from labctl.store.lock import FileLock
lock = FileLock(Path(sys.argv[1] + ".mine")); assert lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = holder(path)
    mine = Path(f"{path}.mine")
    try:
        assert is_held(mine)
        assert not FileLock(mine).acquire()
    finally:
        process.kill()
        process.communicate()
    assert not is_held(mine)
    lock = FileLock(mine)
    assert lock.acquire()
    lock.release()


def test_asking_does_not_take(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    assert not path.exists()
    lock = FileLock(path)
    assert lock.acquire()
    assert is_held(path) and is_held(path)
    lock.release()
    assert not is_held(path)


def test_waiting_is_bounded(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    began = time.monotonic()
    assert not second.acquire(timeout_s=0.2)
    assert 0.15 < time.monotonic() - began < 5
    first.release()
    assert second.acquire(timeout_s=0.2)
    second.release()
