"""What goes into the model and what comes out: pixels, prompt ids, answer text.

Needs numpy, OpenCV and tokenizers only, so that the runtime works without torch. The class has
the methods of a Hugging Face processor (`from_pretrained`, `save_pretrained`, `__call__`,
`batch_decode`) without deriving from one, because that import alone costs seconds.

Prompt layout, one sequence per dialogue:

    <bos> system? media (<user> question <assistant> answer <eos>)* <user> question <assistant>

Media are `<image>` ids that stand for the N visual features, which the decoder takes as
embeddings, and, in models that have those branches, `<video>` and `<audio>` ids for the tokens of a
video and of segments of sound. A model that looks again has the image a second time before each
<assistant>: what precedes a question cannot depend on it in a causal model, what follows it can.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import cv2
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from unifiedmllm_ros.errors import ConfigError, ImageError, ModelFileError
from unifiedmllm_ros.model.tokenizer import (
    ASSISTANT,
    AUDIO,
    BOS,
    EOS,
    IMAGE,
    NUMBERS,
    PAD,
    USER,
    VIDEO,
    token_bytes,
)
from unifiedmllm_ros.representation import MARKERS, escape

TOKENIZER_FILE: Final = 'tokenizer.json'
PROCESSOR_FILE: Final = 'processor_config.json'
TOKENIZER_CONFIG_FILE: Final = 'tokenizer_config.json'

Turn = tuple[str, str | None]
_BRANCH_FIELDS: Final = (
    'video_frames',
    'video_tokens',
    'audio_rate',
    'audio_samples',
    'audio_tokens',
)


@dataclass(frozen=True)
class ProcessorConfig:
    """How images enter the model, and what it has learnt to do.

    image_size: height and width in pixels of the resized image.
    visual_tokens: number of `<image>` positions that one image takes.
    tasks: names of the tasks that its answers may call; None for all that are registered.
    instance_gap: it lists the instances of a phrase from left to right, and the left edge of each
        is further right than that of the one before by at least this share of the latter's width,
        so that it cannot name one instance twice; None for any order.
    look_again: the image's features stand after each question too.
    video_frames, video_tokens: frames that a video is sampled at, and positions that it takes.
    audio_rate, audio_samples, audio_tokens: samples a second, samples of a segment, and positions
        that a segment takes. 0 where the model has no such branch.
    """

    image_size: tuple[int, int] = (240, 320)
    visual_tokens: int = 300
    tasks: tuple[str, ...] | None = None
    instance_gap: float | None = None
    look_again: bool = False
    video_frames: int = 0
    video_tokens: int = 0
    audio_rate: int = 0
    audio_samples: int = 0
    audio_tokens: int = 0


class UnifiedMLLMProcessor:
    """Turns images and dialogues into model inputs, and answer ids back into text."""

    def __init__(self, tokenizer: Tokenizer, config: ProcessorConfig | None = None) -> None:
        self.config = config or ProcessorConfig()
        self.tokenizer = tokenizer
        # A second instance because the switch is state of the tokenizer, not of a call.
        self._user_tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._user_tokenizer.encode_special_tokens = True
        self._bytes = token_bytes(tokenizer)
        self.pad_id = self.token_id(PAD)
        self.bos_id = self.token_id(BOS)
        self.eos_id = self.token_id(EOS)
        self.image_id = self.token_id(IMAGE)
        self.user_id = self.token_id(USER)
        self.assistant_id = self.token_id(ASSISTANT)
        self.video_id = self.token_id(VIDEO) if self.config.video_tokens else None
        self.audio_id = self.token_id(AUDIO) if self.config.audio_tokens else None
        first = self._single_id(NUMBERS[0])
        self.number_ids: npt.NDArray[np.int64] = np.arange(first, first + len(NUMBERS))
        """Ids of '0.000' ... '1.000': number_ids[k] is the coordinate k / 1000."""
        if self._single_id(NUMBERS[-1]) != self.number_ids[-1]:
            raise ModelFileError(
                'tokenizer: the ids of the numbers 0.000 to 1.000 must be in a row'
            )

    @property
    def vocab_size(self) -> int:
        """Number of ids, markers and chat tokens included."""
        return len(self._bytes)

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """UTF-8 bytes of each id."""
        return self._bytes

    def token_id(self, token: str) -> int:
        """Return the id of a marker or chat token; ModelFileError if the tokenizer lacks it."""
        index = self.tokenizer.token_to_id(token)
        if index is None:
            raise ModelFileError(
                f'tokenizer: token {token!r} is missing; use the tokenizer.json of this model'
            )
        return int(index)

    # Images

    def pixels(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Resize an RGB image for the vision encoder.

        image: uint8 [height, width, 3], any size from 1x1. Returns float32 [1, 3, H, W] in 0..1.
        The image is stretched, not padded, so relative coordinates keep their meaning.
        Raises ImageError for another type or shape.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, 'dtype', type(image).__name__)
            raise ImageError(f'image has type {kind}; expected a uint8 array')
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ImageError(f'image has shape {image.shape}; expected [height, width, 3] RGB')
        resized = _stretch(image, *self.config.image_size)
        planes = np.ascontiguousarray(resized.transpose(2, 0, 1), dtype=np.float32)
        planes *= np.float32(1 / 255)
        return planes[None]

    # Text

    def encode_user(self, text: str) -> list[int]:
        """Encode what a user said: markers and chat tokens in it are plain text.

        Escaped first, and encoded without special tokens, so no marker id can come out.
        """
        return self._ids(self._user_tokenizer, ' ' + escape(_encodable(text)))

    def encode_answer(self, text: str) -> list[int]:
        """Encode an answer in the unified representation (as format() writes it), without <eos>.

        Prose begins with a space, as every word does; a marker needs none before it.
        """
        space = '' if text.startswith(MARKERS) else ' '
        return self._ids(self.tokenizer, space + _encodable(text))

    def encode_conversation(
        self, turns: Sequence[Turn], *, images: int = 1, system: str = ''
    ) -> list[int]:
        """Encode a dialogue about `images` images.

        turns: (question, answer) pairs, answers in the unified representation; where the answer
        is None the sequence ends with <assistant>, ready for generation.
        """
        ids = self.encode_prefix(images=images, system=system)
        for question, answer in turns:
            ids += self.encode_question(question, images=images)
            if answer is not None:
                ids += [*self.encode_answer(answer), self.eos_id]
        return ids

    def encode_prefix(
        self, *, images: int = 1, videos: int = 0, segments: int = 0, system: str = ''
    ) -> list[int]:
        """Encode what precedes the first question; it depends on nothing that a user says.

        segments: of sound. Raises ConfigError for a medium that the model has no branch for.
        """
        said = self.encode_user(system) if system else []
        placeholders = [self.image_id] * (images * self.config.visual_tokens)
        for count, token, each, medium in (
            (videos, self.video_id, self.config.video_tokens, 'video'),
            (segments, self.audio_id, self.config.audio_tokens, 'audio'),
        ):
            if count and token is None:
                raise ConfigError(f'this model has no {medium} branch: give it no {medium}')
            placeholders += [token] * (count * each) if token is not None else []
        return [self.bos_id, *said, *placeholders]

    def encode_question(self, question: str, *, images: int = 1) -> list[int]:
        """Encode <user> question <assistant>, with the images again where the model wants it."""
        again = images * self.config.visual_tokens * self.config.look_again
        said = self.encode_user(question)
        return [self.user_id, *said, *[self.image_id] * again, self.assistant_id]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the UTF-8 bytes of ids; a cut between two ids may lie inside a character."""
        spelled = self._bytes
        return b''.join(spelled[index] for index in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, markers included, as representation.parse() reads it.

        The leading space of an answer is dropped, and so are <eos> and <pad>. Bytes that are not
        UTF-8 become U+FFFD.
        """
        kept = (index for index in ids if index not in (self.eos_id, self.pad_id))
        return self.decode_bytes(kept).decode('utf-8', 'replace').removeprefix(' ')

    def batch_decode(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """Decode several sequences of ids."""
        return [self.decode(ids) for ids in sequences]

    def __call__(
        self,
        images: npt.NDArray[np.uint8] | None = None,
        conversation: Sequence[Turn] | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Return model inputs: 'pixels' float32 [1, 3, H, W] and/or 'input_ids' int64 [1, T]."""
        inputs: dict[str, npt.NDArray[Any]] = {}
        if images is not None:
            inputs['pixels'] = self.pixels(images)
        if conversation is not None:
            ids = self.encode_conversation(conversation, images=int(images is not None))
            inputs['input_ids'] = np.asarray([ids], dtype=np.int64)
        return inputs

    # Files

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load tokenizer.json and processor_config.json from a model folder.

        Raises ModelFileError, naming the file, if one is missing or not readable as such.
        """
        folder = Path(folder)
        return cls(_read_tokenizer(folder / TOKENIZER_FILE), _read_config(folder / PROCESSOR_FILE))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json (AutoTokenizer) and processor_config.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / TOKENIZER_FILE))
        names = {'bos_token': BOS, 'eos_token': EOS, 'pad_token': PAD}
        _write_json(
            folder / TOKENIZER_CONFIG_FILE, {'tokenizer_class': 'PreTrainedTokenizerFast', **names}
        )
        _write_json(
            folder / PROCESSOR_FILE, {'processor_class': type(self).__name__, **asdict(self.config)}
        )

    def _single_id(self, text: str) -> int:
        ids = self._ids(self.tokenizer, text)
        if len(ids) != 1:
            raise ModelFileError(f'tokenizer: {text!r} must be one token, not {len(ids)}')
        return ids[0]

    @staticmethod
    def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _stretch(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize to height x width: first average what shrinks, then interpolate what grows."""
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    if smaller != (image.shape[1], image.shape[0]):
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA))
    if smaller != (width, height):
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
    return image


def _encodable(text: str) -> str:
    """Replace lone surrogates, which have no UTF-8 form, by U+FFFD."""
    return text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')


def _read_tokenizer(file: Path) -> Tokenizer:
    text = _read_text(file)
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelFileError(f'{file}: not a tokenizer ({error}); fetch the file again') from error


def _read_config(file: Path) -> ProcessorConfig:
    text = _read_text(file)
    try:
        fields = json.loads(text)
        height, width = fields['image_size']
        tasks, gap = fields.get('tasks'), fields.get('instance_gap')
        return ProcessorConfig(
            (int(height), int(width)),
            int(fields['visual_tokens']),
            None if tasks is None else tuple(map(str, tasks)),
            None if gap is None else float(gap),
            bool(fields.get('look_again', False)),
            *(int(fields.get(name, 0)) for name in _BRANCH_FIELDS),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f'{file}: not a processor configuration ({error!r}); fetch the file again'
        ) from error


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f'{file}: cannot be read ({error}); fetch the model again') from error


def _write_json(file: Path, fields: dict[str, Any]) -> None:
    file.write_text(json.dumps(fields, indent=2) + '\n', encoding='utf-8')
