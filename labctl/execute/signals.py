"""Signals that ask a command to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """Ctrl-C or SIGTERM reached the supervisor."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Heard:
    """For as long as it is entered, signals are handled by `handler` and end nothing; outside the
    main thread, which alone may say so, they are handled as before."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self.handler = handler

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.before = {}
            return
        # What is ignored already stays so: that is how nohup keeps a command alive.
        heard = [n for n in NUMBERS if signal.getsignal(n) is not signal.SIG_IGN]
        self.before = {number: signal.signal(number, self.handler) for number in heard}

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
