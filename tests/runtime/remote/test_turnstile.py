"""First come, first served; who gives up loses only the own place."""

from __future__ import annotations

import threading

import pytest

from unifiedmllm_ros.cancellation import never
from unifiedmllm_ros.errors import Cancelled
from unifiedmllm_ros.runtime.remote.turnstile import Turnstile


def test_order_is_kept():
    turnstile, order = Turnstile(1), []
    asked = [threading.Event() for _ in range(5)]

    def wait_for_it(number):
        def noted():
            asked[number].set()
            return False

        with turnstile.place(noted):
            order.append(number)

    with turnstile.place(never):
        threads = [threading.Thread(target=wait_for_it, args=(n,)) for n in range(5)]
        for number, thread in enumerate(threads):
            thread.start()
            # It waits once it looks whether it is cancelled.
            assert asked[number].wait(10)
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_who_gives_up_leaves_the_line():
    turnstile = Turnstile(1)
    with turnstile.place(never), pytest.raises(Cancelled), turnstile.place(lambda: True):
        raise AssertionError('there was no place')
    with turnstile.place(lambda: True):
        pass


def test_an_error_inside_frees_the_place():
    turnstile = Turnstile(1)
    with pytest.raises(ValueError), turnstile.place(never):
        raise ValueError
    with turnstile.place(lambda: True):
        pass
