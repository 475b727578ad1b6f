"""Tokenizers of published models, extended: nothing is lost, ids stay, numbers are one token."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from unifiedmllm_ros.errors import ConfigError, ModelFileError
from unifiedmllm_ros.model.extended_tokenizer import extend_tokenizer, known_tokens
from unifiedmllm_ros.model.processing import ProcessorConfig, UnifiedMLLMProcessor
from unifiedmllm_ros.runtime.grammar import Grammar

LINES = ['find the red mug', 'where is the café?', 'A man plays 12 songs.'] * 4
BOX = '<p>red mug</p><box>[0.412, 0.203, 1.000, 0.441]</box>'


def byte_level() -> Tokenizer:
    """As GPT-2's; its alphabet lacks some bytes, as SmolLM2's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:-21]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=alphabet,
        special_tokens=['<|endoftext|>'],
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As Llama 2's: spaces are a character, bytes are the way out."""
    bytes_ = [f'<0x{byte:02X}>' for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token='<unk>'))
    tokenizer.normalizer = normalizers.Replace(' ', '\u2581')
    # Words are learnt one by one; nothing splits them afterwards.
    tokenizer.pre_tokenizer = pre_tokenizers.Split('\u2581', 'merged_with_next')
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=['<unk>', '<s>', '</s>', *bytes_], show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    spec = json.loads(tokenizer.to_str())
    # Bytes are tokens of the vocabulary as others are.
    added = [token for token in spec['added_tokens'] if token['content'] not in bytes_]
    return Tokenizer.from_str(json.dumps({**spec, 'pre_tokenizer': None, 'added_tokens': added}))


KINDS = {'byte-level': byte_level(), 'sentencepiece': sentencepiece()}
EXTENDED = {
    name: UnifiedMLLMProcessor(
        extend_tokenizer(base),
        ProcessorConfig((24, 32), 3, video_frames=2, video_tokens=4, audio_tokens=2),
    )
    for name, base in KINDS.items()
}


@pytest.mark.parametrize('kind', KINDS)
def test_ids_of_words_stay_and_new_ones_follow(kind: str) -> None:
    base, processor = KINDS[kind], EXTENDED[kind]
    words = base.encode('find the red mug').ids
    assert processor.tokenizer.encode('find the red mug').ids == words
    before = known_tokens(base)
    assert min(processor.number_ids[0], processor.bos_id, processor.video_id) >= before
    assert processor.vocab_size > before + 1001


@pytest.mark.parametrize('kind', KINDS)
def test_answers_are_spelled_with_whole_numbers(kind: str) -> None:
    processor = EXTENDED[kind]
    ids = processor.encode_answer(BOX)
    assert processor.decode(ids) == BOX
    first = int(processor.number_ids[0])
    assert [i - first for i in ids if first <= i <= first + 1000] == [412, 203, 1000, 441]
    state = Grammar(processor).start()
    for token in (*ids, processor.eos_id):
        state = state.advance(token)
    assert state.finished


@pytest.mark.parametrize('kind', KINDS)
@given(text=st.text(st.characters(exclude_categories=['Cs']), max_size=30))
def test_any_text_comes_back(kind: str, text: str) -> None:
    processor = EXTENDED[kind]
    assert processor.decode_bytes(processor.tokenizer.encode(text).ids).decode() == text


@pytest.mark.parametrize('kind', KINDS)
def test_media_have_places_of_their_own(kind: str) -> None:
    processor = EXTENDED[kind]
    ids = processor.encode_prefix(images=1, videos=1, segments=3)
    assert ids == [
        processor.bos_id,
        *[processor.image_id] * 3,
        *[processor.video_id] * 4,
        *[processor.audio_id] * 6,
    ]
    said = processor.encode_user('<video> <audio> <image> <seg>')
    assert not {processor.video_id, processor.audio_id, processor.image_id} & set(said)


def test_medium_without_a_branch_and_other_kinds_are_named() -> None:
    deaf = UnifiedMLLMProcessor(EXTENDED['byte-level'].tokenizer, ProcessorConfig((24, 32), 3))
    with pytest.raises(ConfigError, match='no audio branch'):
        deaf.encode_prefix(segments=1)
    with pytest.raises(ModelFileError, match='WordLevel'):
        extend_tokenizer(Tokenizer(models.WordLevel({'a': 0}, unk_token='a')))
