"""Packed question and answer pairs: each sees the picture and itself alone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('transformers', reason='needs the extra [train]')

from tests.model.twin import REGIONS, twin_model, twin_processor  # noqa: E402
from unifiedmllm_ros.training.answers import IGNORED, AnswerCollator, Dialogue  # noqa: E402

PROCESSOR = twin_processor()
AGAIN = twin_processor(look_again=True)
MUG = ('find the red mug', '<p>red mug</p><box>[0.100, 0.200, 0.300, 0.400]</box>')
BOWL = ('segment the bowl', '<seg><p>bowl</p><box>[0.500, 0.600, 0.700, 0.800]</box></seg>')
PAIRS = [Dialogue((MUG,)), Dialogue((BOWL, MUG)), Dialogue((('a mug?', 'There are 2 mugs.'),))]


def logits_of(batch, features) -> torch.Tensor:
    model = twin_model(PROCESSOR)
    with torch.no_grad():
        return model.language_model(
            inputs_embeds=model.embed(batch.ids, features),
            attention_mask=batch.mask,
            position_ids=batch.positions,
        ).logits


@pytest.mark.parametrize('processor', [PROCESSOR, AGAIN], ids=['once', 'again'])
def test_a_packed_pair_gives_the_logits_of_the_pair_alone(processor) -> None:
    collate = AnswerCollator(processor)
    features = torch.randn(1, REGIONS, 32)
    packed = collate([PAIRS])
    together = logits_of(packed, features)[0]
    start = 1 + REGIONS
    for pair in PAIRS:
        alone = collate([[pair]])
        size = alone.ids.shape[1] - (1 + REGIONS)
        expected = logits_of(alone, features)[0, 1 + REGIONS :]
        torch.testing.assert_close(together[start : start + size], expected, atol=1e-5, rtol=1e-4)
        start += size


def test_rows_behind_a_question_look_at_the_tokens_that_stand_there_again() -> None:
    batch = AnswerCollator(AGAIN)([PAIRS])
    row, at, labels = batch.ids[0], batch.regions_at[0], batch.labels[0]
    assert len(batch.again) == 4  # turns
    taught = torch.nonzero(labels != IGNORED).flatten()
    starts = at[taught]
    assert set(starts.tolist()) == set(batch.again.tolist())
    for start in starts.tolist():
        assert row[start : start + REGIONS].tolist() == [AGAIN.image_id] * REGIONS
    assert (starts < taught).all()
    # A dialogue's second turn looks behind its own question.
    assert batch.box_turn.tolist() == [0, 1, 2]
    torch.testing.assert_close(batch.turn_boxes[1], torch.tensor([0.5, 0.6, 0.7, 0.8]))


def test_boxes_of_a_layout_are_no_things_of_the_picture() -> None:
    layout = '<layout>a mug<p>mug</p><box>[0.100, 0.200, 0.300, 0.400]</box></layout>'
    batch = AnswerCollator(AGAIN)([[Dialogue((('draw a mug', layout),))]])
    assert len(batch.again) == len(batch.box_rows) == len(batch.turn_boxes) == 0
    assert (batch.labels != IGNORED).any()


def test_labels_are_the_answers_and_nothing_else() -> None:
    batch = AnswerCollator(PROCESSOR)([[PAIRS[1]]])
    taught = batch.labels[batch.labels != IGNORED].tolist()
    expected = []
    for _, answer in PAIRS[1].turns:
        expected += [*PROCESSOR.encode_answer(answer), PROCESSOR.eos_id]
    assert taught == expected


def test_every_label_is_the_id_that_follows() -> None:
    batch = AnswerCollator(PROCESSOR)([[PAIRS[0]]])
    row, labels = batch.ids[0], batch.labels[0]
    for place in torch.nonzero(labels != IGNORED).flatten().tolist():
        assert int(row[place + 1]) == int(labels[place])


def test_boxes_are_read_back_from_the_labels() -> None:
    batch = AnswerCollator(PROCESSOR)([PAIRS, [PAIRS[0]]])
    labels = batch.labels.flatten()[batch.box_rows]
    first = int(PROCESSOR.number_ids[0])
    coordinate = (labels >= first) & (labels <= first + 1000)
    assert int(coordinate.sum()) == 16
    written = batch.boxes[coordinate].reshape(4, 4, 4)
    spelled = (labels[coordinate] - first).reshape(4, 4).float() / 1000
    torch.testing.assert_close(written[:, 0], spelled)
    assert (written == written[:, :1]).all()
    assert (batch.box_rows[coordinate][-4:] // batch.ids.shape[1] == 1).all()


def test_a_phrase_belongs_to_its_box_unless_it_has_several() -> None:
    two = '<p>mug</p><box>[0.100, 0.200, 0.300, 0.400]</box><box>[0.500, 0.600, 0.700, 0.800]</box>'
    open_id = PROCESSOR.token_id('<p>')
    for answer, expected in ((MUG[1], 1), (two, 0)):
        batch = AnswerCollator(PROCESSOR)([[Dialogue((('find it', answer),))]])
        said = batch.ids.flatten()[batch.box_rows].tolist()
        assert said.count(open_id) == expected


def test_what_does_not_fit_is_left_out_whole() -> None:
    collate = AnswerCollator(PROCESSOR, length=1 + REGIONS + 30)
    batch = collate([PAIRS])
    assert batch.ids.shape[1] <= 1 + REGIONS + 30
    assert PROCESSOR.eos_id in batch.ids[0].tolist()


def test_nothing_looks_at_padding() -> None:
    batch = AnswerCollator(PROCESSOR)([PAIRS, [PAIRS[2]]])
    padded = batch.ids[1] == PROCESSOR.pad_id
    assert bool(padded.any())
    assert not bool(batch.mask[1, 0][~padded][:, padded].any())
    # Every row sees something, or its softmax would be over nothing.
    assert bool(batch.mask.any(-1).all())


def test_repeated_words_of_an_argument_are_found_in_the_question() -> None:
    edit = ('Make it sunny please', '<edit>make it sunny</edit>')
    batch = AnswerCollator(AGAIN)([[Dialogue((MUG, edit))], [Dialogue((MUG,))]])
    spell = AGAIN.tokenizer.decode
    copied = [
        (spell([int(batch.labels.flatten()[row])]), spell([int(batch.ids[0, column])]))
        for row, column in zip(batch.copy_rows.tolist(), batch.copy_columns.tolist(), strict=True)
    ]
    assert ''.join(word for word, _ in copied) == 'make it sunny'
    assert all(word.strip() == source.strip().lower() for word, source in copied)
    length = batch.ids.shape[1]
    assert (batch.copy_rows < length).all(), 'the second scene repeats nothing'
    assert (batch.copy_columns < batch.copy_rows).all()


def test_numbers_of_an_earlier_answer_are_found_again() -> None:
    again = ('now segment it', '<seg><p>mug</p><box>[0.100, 0.200, 0.300, 0.400]</box></seg>')
    batch = AnswerCollator(AGAIN)([[Dialogue((MUG, BOWL, again))]])
    row, labels = batch.ids[0], batch.labels[0]
    first = int(AGAIN.number_ids[0])
    copied = [
        (int(labels[place]) - first, int(row[column]) - first)
        for place, column in zip(batch.copy_rows.tolist(), batch.copy_columns.tolist(), strict=True)
    ]
    assert copied == [(n, n) for n in (100, 200, 300, 400)]
    assert (batch.copy_columns < batch.copy_rows).all()
