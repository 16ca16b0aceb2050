"""SIGTERM is taken note of, in the main thread and until the end of the block."""

from __future__ import annotations

import os
import signal
import threading

from qgface_plugin.training.preemption import EXIT_STATUS, watch_for_stop


def test_it_is_noticed_and_the_handler_of_before_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with watch_for_stop() as watch:
        assert not watch.wanted()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert watch.wanted()
    assert signal.getsignal(signal.SIGTERM) is before
    with watch_for_stop() as watch:
        assert not watch.wanted()
    assert EXIT_STATUS == 143


def test_another_thread_watches_nothing():
    found = []

    def start() -> None:
        with watch_for_stop() as watch:
            found.append((watch.wanted(), signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert found == [(False, before)]
