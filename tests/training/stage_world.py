"""What the tests of the stages share: twins of the presets, and conversations of all media."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.model.preset_twin import shrunken_preset
from unifiedmllm_ros.data.conversation import Conversation, Turn, write_conversations
from unifiedmllm_ros.model.extended_tokenizer import extend_tokenizer
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.training.beginning import preset_processor, token_ids
from unifiedmllm_ros.training.settings import StageSettings
from unifiedmllm_ros.training.tabletop_nano import spellings

WORDS = ('blue', 'mug')
LINES = ['find the red mug', 'segment the blue bowl', 'what happens here?', 'A man plays a song.']
FOUND = '<p>red mug</p><box>[0.412, 0.203, 0.587, 0.441]</box>'


def base_tokenizer() -> Tokenizer:
    """A byte-level BPE as published language models have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=['<|endoftext|>'],
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES * 4, trainer)
    return tokenizer


def write_twin(name: str, folder: Path) -> Path:
    """The shrunken twin of a preset with random weights, as a model folder."""
    preset = shrunken_preset(name)
    processor = preset_processor(preset, extend_tokenizer(base_tokenizer()))
    words = WORDS if 'regions' in preset.vision else ()
    said = [spellings(processor, word) for word in words]
    torch.manual_seed(0)
    model = UnifiedMLLMForConditionalGeneration(preset.config(token_ids(processor), words, said))
    model.initialise_numbers()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_picture(path: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    cv2.imwrite(str(path), rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))


def wav_bytes(seconds: float = 0.7, rate: int = 16000, width: int = 2) -> bytes:
    time = np.arange(round(seconds * rate)) / rate
    values = (0.3 * np.sin(2 * np.pi * 440 * time) * 2 ** (8 * width - 1)).astype('<i4')
    raw = values.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    file = io.BytesIO()
    with wave.open(file, 'wb') as out:
        out.setnchannels(1)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(raw)
    return file.getvalue()


def write_conversations_of_all_media(folder: Path, count: int, media: tuple[str, ...]) -> Path:
    """`count` conversations: one medium each in turn, now and then all of them, and text alone."""
    (folder / 'clip').mkdir(parents=True, exist_ok=True)
    for number in range(5):
        write_picture(folder / 'clip' / f'{number}.png', number)
    write_picture(folder / 'picture.png', 9)
    (folder / 'sound.wav').write_bytes(wav_bytes())
    paths = {'image': 'picture.png', 'video': 'clip', 'audio': 'sound.wav'}
    kinds: list[tuple[str, ...]] = [*((m,) for m in media), media, ()]
    rows = []
    for number in range(count):
        answer = FOUND if number % 2 else f'A man plays a song. <vidgen>a mug {number}</vidgen>'
        turns = [Turn(role='user', text='what happens here?'), Turn(role='assistant', text=answer)]
        if number % 3 == 0:
            turns += [
                Turn(role='user', text='find the red mug'),
                Turn(role='assistant', text=FOUND),
            ]
        named = {medium: paths[medium] for medium in kinds[number % len(kinds)]}
        rows.append(Conversation(id=f'c{number}', kind='test', turns=tuple(turns), **named))
    file = folder / 'train.jsonl'
    write_conversations(file, rows)
    return file


def media_of(name: str) -> tuple[str, ...]:
    return ('image',) if name == 'tabletop-nano' else ('image', 'video', 'audio')


def stage(number: int, start: Path, data: Path, out: Path, **changes: Any) -> StageSettings:
    """A short stage in float32."""
    trained = {
        1: {'parts': ['adapters']},
        2: {'parts': ['adapters'], 'language_model': 'full'},
        3: {'parts': ['adapters'], 'language_model': 'loramoe'},
    }[number]
    values = {
        'stage': number,
        'model': {'start': str(start)},
        'data': [{'path': data.name}],
        'data_root': data.parent,
        'out': out,
        'trainable': trained,
        'optimiser': {'learning_rate': 3e-3, 'schedule': 'constant'},
        'batch': {'size': 4, 'per_device': 4, 'length': 256},
        'steps': 4,
        'precision': 'fp32',
        'saving': {'every': 1000},
        'log_every': 1,
        'threads': 1,
    }
    return StageSettings.model_validate({**values, **changes})


def losses_in(out: Path) -> list[float]:
    """The loss of every step, as the newest checkpoint remembers them."""
    newest = max(out.glob('checkpoint-*'), key=lambda folder: int(folder.name.split('-')[1]))
    history = json.loads((newest / 'trainer_state.json').read_text())['log_history']
    return [row['loss'] for row in history if 'loss' in row]
