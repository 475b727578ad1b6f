"""A remote model as the perceiver sees it."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.cancellation import Cancel, never
from unifiedmllm_ros.errors import ConfigError, ImageError
from unifiedmllm_ros.model.adapters.base import Flaw, FlawKind, Message, Size, Translation
from unifiedmllm_ros.model.adapters.registry import adapter
from unifiedmllm_ros.model.protocol import Conversation, ModelInfo, TextChunk
from unifiedmllm_ros.representation import Response, format
from unifiedmllm_ros.runtime.decoding import MAX_TOKENS
from unifiedmllm_ros.runtime.remote.client import Client, Health
from unifiedmllm_ros.runtime.remote.description import RemoteDescription
from unifiedmllm_ros.runtime.remote.exchange import RemoteError
from unifiedmllm_ros.runtime.remote.guided import request_fields

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SentImage:
    """An image as it is sent: its size and its JPEG as a data URL."""

    size: Size
    url: str = field(repr=False)


class RemoteModel:
    """Answers through a server; implements model.protocol.MultimodalModel.

    flaws: what was wrong with the latest answer before it became unified representation; for a
    native one see Answer.problems.
    """

    def __init__(self, description: RemoteDescription, client: Client | None = None) -> None:
        """Prepare; the server is first spoken to when there is a question."""
        self.max_tokens = MAX_TOKENS
        self.flaws: tuple[Flaw, ...] = ()
        self.client = client or Client(description)
        self._description = description
        self._adapter = adapter(description.representation)
        self._model = description.model

    @property
    def info(self) -> ModelInfo:
        """What runs; precision is the server's affair."""
        server = urlsplit(self._description.url).netloc
        name = self._model or 'remote model'
        return ModelInfo(name, f'remote ({self._adapter.name})', 'as served', server)

    @property
    def health(self) -> Health:
        """How the server has been."""
        return self.client.health

    def check(self, cancel: Cancel = never) -> str:
        """Return the name of the model that will answer.

        Raises RemoteError where the server cannot be reached, ConfigError where it does not serve
        the model or serves several and none is named.
        """
        served = self.client.models(cancel)
        wanted = self._description.model
        if wanted and wanted not in served:
            names = ', '.join(served) or 'nothing'
            raise ConfigError(f'{self._description.url} has no model {wanted!r}: it has {names}')
        if not wanted and len(served) != 1:
            names = ', '.join(served) or 'nothing'
            raise ConfigError(f'{self._description.url} serves {names}: name one as model')
        self._model = wanted or served[0]
        return self._model

    def encode(self, image: npt.NDArray[np.uint8]) -> SentImage:
        """Write an image as JPEG, shrunk to max_side; uint8 [height, width, 3] RGB."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError(f'image is {image.dtype} {image.shape}, not uint8 (height, width, 3)')
        height, width = image.shape[:2]
        scale = self._description.max_side / max(height, width)
        if scale < 1:
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        options = [cv2.IMWRITE_JPEG_QUALITY, self._description.jpeg_quality]
        _, jpeg = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
        encoded = base64.b64encode(jpeg.tobytes()).decode()
        return SentImage(Size(width, height), f'data:image/jpeg;base64,{encoded}')

    def stream(
        self, features: SentImage, conversation: Conversation, cancel: Cancel = never
    ) -> Iterator[TextChunk]:
        """Answer; a native one piece by piece, others part by part once they are complete.

        Raises RemoteError, ConfigError (API key, model name), Cancelled.
        """
        if not self._model:
            self.check(cancel)
        self.flaws = ()
        messages = self._adapter.messages(conversation, features.size)
        request = {
            'model': self._model,
            'messages': [_chat(message, features) for message in messages],
            'max_tokens': self.max_tokens,
            'temperature': self._description.temperature,
            **request_fields(self._description.guided),
            **self._description.extra,
        }
        if self._adapter.name == 'native':
            for delta in self.client.complete(request, cancel):
                if delta.text:
                    yield TextChunk(delta.text)
            return
        translation = self._translated(request, features, conversation.question, cancel)
        for part in translation.response.parts:
            yield TextChunk(format(Response((part,))))

    def _translated(
        self, request: dict[str, Any], image: SentImage, question: str, cancel: Cancel
    ) -> Translation:
        deltas = list(self.client.complete(request, cancel))
        text = ''.join(delta.text for delta in deltas)
        translation = self._adapter.parse(text, image.size, question=question)
        self.flaws = translation.flaws
        if deltas and deltas[-1].finish == 'length':
            message = f'the answer reached max_tokens ({self.max_tokens}) and was cut there'
            self.flaws += (Flaw(FlawKind.TRUNCATED, len(text), '', message),)
        for flaw in self.flaws:
            _log.warning('%s: %s at %d: %s', self.info.name, flaw.kind.value, flaw.position, flaw)
        return translation


def _chat(message: Message, image: SentImage) -> dict[str, Any]:
    if not message.image:
        return {'role': message.role, 'content': message.text}
    picture = {'type': 'image_url', 'image_url': {'url': image.url}}
    return {'role': message.role, 'content': [picture, {'type': 'text', 'text': message.text}]}


__all__ = ['RemoteError', 'RemoteModel', 'SentImage']
