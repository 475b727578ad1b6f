"""Cancels: events, functions, none."""

from __future__ import annotations

import threading

import pytest

from unifiedmllm_ros.cancellation import as_cancel, check
from unifiedmllm_ros.errors import Cancelled


def test_an_event_cancels_once_it_is_set() -> None:
    event = threading.Event()
    cancel = as_cancel(event)
    check(cancel, 'work')
    event.set()
    with pytest.raises(Cancelled, match='work'):
        check(cancel, 'work')


def test_a_function_and_nothing_are_cancels_too() -> None:
    assert as_cancel(lambda: True)()
    assert not as_cancel(None)()
