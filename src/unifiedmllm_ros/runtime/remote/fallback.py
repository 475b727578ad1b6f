"""A remote model with a local one behind it, for when the link drops."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.cancellation import Cancel, never
from unifiedmllm_ros.errors import ConfigError, UnifiedMLLMError
from unifiedmllm_ros.model.protocol import (
    Conversation,
    Features,
    ModelInfo,
    MultimodalModel,
    TextChunk,
)
from unifiedmllm_ros.runtime.remote.exchange import RemoteError
from unifiedmllm_ros.runtime.remote.model import RemoteModel

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Seen:
    image: npt.NDArray[np.uint8]
    remote: Features | None = None
    local: Features | None = None


class FallbackModel:
    """Asks the remote model, and the local one while the remote fails; a MultimodalModel.

    After a failure the local model answers at once, without trying the link, until a look at the
    server every `recheck` seconds, in the background, finds the remote model back. An answer that
    breaks off after some of it has been passed on is an error: it cannot be taken back.
    `info` names the model of the latest answer, and a local one as standing in.
    """

    def __init__(self, remote: RemoteModel, local: MultimodalModel, recheck: float = 5.0) -> None:
        """Take both models; `recheck` in seconds."""
        self._remote = remote
        self._local = local
        self._recheck = recheck
        self._max_tokens = local.max_tokens
        self._lock = threading.Lock()
        self._local_answered = False
        self.restored = threading.Event()
        self.restored.set()

    @property
    def max_tokens(self) -> int:
        """Longest answer in tokens, of both models."""
        return self._max_tokens

    @max_tokens.setter
    def max_tokens(self, value: int) -> None:
        self._local.max_tokens = value
        self._remote.max_tokens = value
        self._max_tokens = value

    @property
    def info(self) -> ModelInfo:
        """What gave the latest answer."""
        if not self._local_answered:
            return self._remote.info
        info = self._local.info
        return replace(info, name=f'{info.name} (standing in for {self._remote.info.name})')

    def encode(self, image: npt.NDArray[np.uint8]) -> _Seen:
        """Keep the image; each model looks at it when it is asked."""
        return _Seen(image)

    def stream(
        self, features: _Seen, conversation: Conversation, cancel: Cancel = never
    ) -> Iterator[TextChunk]:
        """Answer; see MultimodalModel.stream."""
        if self.restored.is_set():
            started = False
            try:
                if features.remote is None:
                    features.remote = self._remote.encode(features.image)
                for chunk in self._remote.stream(features.remote, conversation, cancel):
                    started = True
                    self._local_answered = False
                    yield chunk
                return
            except (RemoteError, ConfigError) as error:
                self._drop(error)
                if started:
                    raise
        self._local_answered = True
        if features.local is None:
            features.local = self._local.encode(features.image)
        yield from self._local.stream(features.local, conversation, cancel)

    def _drop(self, error: UnifiedMLLMError) -> None:
        with self._lock:
            if not self.restored.is_set():
                return
            self.restored.clear()
        _log.warning('the remote model is lost, the local one answers: %s', str(error))
        arguments = (weakref.ref(self), self._recheck)
        threading.Thread(target=_look, args=arguments, name='remote-recheck', daemon=True).start()

    def _is_back(self) -> bool:
        try:
            self._remote.check()
        except UnifiedMLLMError:
            return False
        _log.warning('the remote model is back')
        self.restored.set()
        return True


def _look(reference: weakref.ref[FallbackModel], seconds: float) -> None:
    """Look for the remote model until it is back or nobody holds the fallback any more."""
    pause = threading.Event()
    while True:
        pause.wait(seconds)
        model = reference()
        if model is None or model._is_back():
            return
        del model
