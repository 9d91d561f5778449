"""Ctrl-C: answered at once, also while a library computes for seconds; the second one ends the program."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading

STOPPED = 130  # exit code, as a shell's for SIGINT
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name)]


class Interrupts:
    """``with Interrupts(): ...`` around a command; in threads other than the main one it does nothing.

    Python runs a signal's handler between two of its own operations, so a network layer or a compiler of seconds
    delays it. The interpreter's wake-up socket does not wait: a thread reads it, says that the program is stopping, and
    at the second signal ends it without asking anyone.
    """

    def __enter__(self) -> Interrupts:
        self._active = threading.current_thread() is threading.main_thread()
        self._thread = None
        if not self._active:
            return self
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        if not self._active:
            return
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writer.close()  # the watching thread reads an end and is done
        if self._thread is not None:
            self._thread.join(1.0)
        self._reader.close()

    def watch(self) -> None:
        """Begin to answer; until then a signal is raised as `KeyboardInterrupt` by the handler alone."""
        if self._active and self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="flashworld-interrupts", daemon=True)
            self._thread.start()

    @staticmethod
    def _handle(*_) -> None:
        raise KeyboardInterrupt

    def _watch(self) -> None:
        seen = 0
        while True:
            try:
                numbers = self._reader.recv(16)
            except OSError:
                return
            if not numbers:
                return
            seen += sum(number in [int(s) for s in _SIGNALS] for number in numbers)
            if seen == 1:
                _write("\nStopping... (Ctrl-C again ends it at once)\n")
            elif seen > 1:
                _write("Ended. A file with a name that begins with a dot may be left over.\n")
                os._exit(STOPPED)


def _write(text: str) -> None:
    """To the terminal, past a stream that the main thread may hold."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no terminal, a captured stream
        os.write(sys.stderr.fileno(), text.encode())
