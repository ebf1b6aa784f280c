"""Signals between two steps."""

from __future__ import annotations

import signal
import threading

import pytest

from calib.interrupts import Interrupts


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request: pytest.FixtureRequest):
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def test_the_first_signal_is_noted_and_the_second_raises(number: signal.Signals):
    with Interrupts() as interrupts:
        assert not interrupts.noted
        signal.raise_signal(number)
        assert interrupts.noted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_signal_that_would_not_raise_stays_what_it_was(number: signal.Signals, handler: signal.Handlers):
    signal.signal(number, handler)
    with Interrupts():
        assert signal.getsignal(number) is handler


def test_a_thread_that_may_set_no_signals_notes_none(number: signal.Signals):
    entered: list[object] = []

    def enter() -> None:
        with Interrupts():
            entered.append(signal.getsignal(number))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [signal.default_int_handler]
