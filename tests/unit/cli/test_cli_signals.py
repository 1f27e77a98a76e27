"""Signals of a command on their way to its container."""

from __future__ import annotations

import os
import signal

from lab.cli.attachment import SignalProxy, forwarding_signals


def test_a_signal_that_comes_before_the_container_is_there_is_handed_on_when_it_is() -> None:
    sent: list[int] = []
    proxy = SignalProxy(sent.append)
    with forwarding_signals(proxy.take):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert sent == []
        proxy.begin()
        assert sent == [signal.SIGTERM, signal.SIGUSR1]
        os.kill(os.getpid(), signal.SIGHUP)
    assert sent == [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]
