"""Which frames are in order, and which come too soon after the last one."""

from __future__ import annotations


class Timeline:
    """Follows the stamps of frames, and holds back those above a rate.

    The rate is measured on the node's clock, so that a replay at double speed is held to it too.
    """

    def __init__(self) -> None:
        self._last_stamp: int | None = None
        self._last_pass: int | None = None

    def goes_back(self, stamp_ns: int) -> bool:
        """Take note of a stamp; return whether it lies before the last one (a bag began anew)."""
        back = self._last_stamp is not None and stamp_ns < self._last_stamp
        self._last_stamp = stamp_ns
        return back

    def passes(self, now_ns: int, max_rate: float) -> bool:
        """Return whether a frame at `now_ns` is within `max_rate` per second; 0 lets all pass."""
        last = self._last_pass
        # A clock that stands still (simulated time before its start) or was set back holds nothing.
        waits = last is not None and 0 < now_ns - last < 1e9 / max_rate if max_rate > 0 else False
        if not waits:
            self._last_pass = now_ns
        return not waits
