"""Which task calls of an answer an expert node carries out, and which this process does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.experts.base import Result
from unifiedmllm_ros.perception import Answer
from unifiedmllm_ros.representation import TaskCall
from unifiedmllm_ros.router import Router
from unifiedmllm_ros.session import Session

LOCAL_TASK = 'seg'
_KEEPS_PICTURE = (LOCAL_TASK, 'vidseg', 'audgen')


class ForwardedError(UnifiedMLLMError):
    """A call that is not carried out here: it is an expert node's."""


class ForwardingRouter(Router):
    """Segments with the experts of another router, and leaves all other calls to an expert node.

    What is segmented after the picture was changed is the expert node's too: only it has the
    changed picture. One thread uses it, as it does the perceiver.
    """

    def __init__(self, local: Router) -> None:
        super().__init__(local.registry)
        self._local = local
        self._changed: Session | None = None

    def run(
        self,
        call: TaskCall,
        image: NDArray[np.uint8] | None = None,
        *,
        session: Session | None = None,
        **options: Any,
    ) -> Result:
        """Run a call as `Router.run` does, or raise ForwardedError."""
        changed = session is not None and session is self._changed
        if call.task == LOCAL_TASK and not changed:
            return self._local.run(call, image, session=session, **options)
        if call.task not in _KEEPS_PICTURE:
            self._changed = session
        raise ForwardedError(f'task {call.task!r} is left to the expert node')

    def close(self) -> None:
        """Unload the local experts."""
        self._changed = None
        self._local.close()


def split_forwarded(answer: Answer) -> tuple[Answer, tuple[TaskCall, ...]]:
    """Return an answer without its forwarded calls among the failures, and these calls in order."""
    forwarded = [one.call for one in answer.failures if isinstance(one.error, ForwardedError)]
    if not forwarded:
        return answer, ()
    kept = tuple(one for one in answer.failures if not isinstance(one.error, ForwardedError))
    return replace(answer, failures=kept), tuple(forwarded)


def place_of(call: Any, calls: Sequence[Any]) -> int:
    """Return where among the calls of an answer one stands; `seg` calls run together as one.

    call, calls: TaskCall messages. A call that is none of them, as with mask_all, comes first.
    """
    for index, said in enumerate(calls):
        if said == call or (said.task == call.task == LOCAL_TASK):
            return index
    return -1
