"""The phases that make `tabletop-nano`, each resumable, all in one work folder.

regions     train the dense head and the backbone's tail on cached features
read        find the regions of every training image; teach the language model to read them
mask        train the mask network
export      write models/tabletop-nano and models/mask-nano
write       write lessons of phase `read` as conversations, for stage 3, beside the scenes
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import torch

from unifiedmllm_ros.data.conversation import Conversation, Turn, write_conversations
from unifiedmllm_ros.model import embedded_adapter
from unifiedmllm_ros.model.efficientnet import EfficientNetLite0
from unifiedmllm_ros.model.folding import fold_batch_norms
from unifiedmllm_ros.model.mask_network import MaskNetwork
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.precision import convert
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.model.regions import Regions, mirror
from unifiedmllm_ros.model.tokenizer import build_tokenizer
from unifiedmllm_ros.representation import Response, TaskCall, format
from unifiedmllm_ros.runtime.calibration import PICTURES, Example
from unifiedmllm_ros.runtime.export import export_mask_network, export_model
from unifiedmllm_ros.tabletop.dialogues import dialogue
from unifiedmllm_ros.tabletop.lexicon import Lexicon, default_lexicon
from unifiedmllm_ros.tabletop.pictures import read_picture
from unifiedmllm_ros.tabletop.questions import (
    KINDS,
    LOOKING,
    MADE_OF_WORDS,
    Question,
    corpus,
    questions,
)
from unifiedmllm_ros.tabletop.record import SceneRecord, read_scenes
from unifiedmllm_ros.tabletop.symbolic import sample_scene
from unifiedmllm_ros.tabletop.task_words import ANY_WORDS, WORDS, composed, held_out
from unifiedmllm_ros.training.answers import AnswerCollator, Batch, Dialogue
from unifiedmllm_ros.training.front_cache import FrontCache
from unifiedmllm_ros.training.imagined import imagine_regions
from unifiedmllm_ros.training.language import LanguageRecipe, prepare_copying, train_language
from unifiedmllm_ros.training.mask_network import MaskRecipe, crop_bank, train_mask_network
from unifiedmllm_ros.training.region_head import (
    RegionHeadRecipe,
    find_regions,
    train_region_head,
)
from unifiedmllm_ros.training.results import load_result
from unifiedmllm_ros.training.tabletop_nano import (
    IMAGE_SIZE,
    nano_processor,
    new_model,
    word_rows,
)

NANO = 'tabletop-nano'
MASK = 'mask-nano'
HARD_KINDS = ('relation', 'order', 'several', 'use', 'count', 'yesno', 'superlative', 'track')
LATE_KINDS = ('caption', 'edit', 'videdit', 'imgvid', 'audgen', 'refusal', 'refusal', 'chat')
MIXTURE: tuple[tuple[tuple[str, ...], float], ...] = (
    (HARD_KINDS, 0.37),
    (LOOKING, 0.05),
    (LATE_KINDS, 0.22),
    (('layout',), 0.12),
    (('add',), 0.06),
    (KINDS, 0.18),
)
DIALOGUE_SHARE = 0.6  # of the scenes have a true dialogue
JUMBLED_SHARE = 0.5
# Where a request does not name what it is about, its words alone tell an edit from a refusal.
MEDIA = re.compile('pictur|image|photo|draw|sketch|video|clip|film|movie|frame|sound|audio|noise')
TEXT_TOKENS = 3000
CORPUS_LINES = 60_000
COPY_SCENES = 1000  # enough to fit the map from regions to their edges
LESSONS, LAYOUTS = Path('lessons.jsonl'), Path('layouts.jsonl')
WRITTEN_DRAWS, WRITTEN_QUESTIONS = 2, 4
CACHE_CAPACITY = 40_000  # images; the files are sparse


@dataclass
class Workshop:
    """Where the pieces are kept between the phases."""

    folder: Path
    lexicon: Lexicon

    @classmethod
    def open(cls, folder: Path) -> Workshop:
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, default_lexicon())

    def begin_from(self, folder: Path) -> None:
        """Take a trained model's weights and tokenizer as the checkpoints to go on from.

        Without an adapter that lies beside them: it belongs to these very weights.
        """
        state = load_result(folder, adapter=False).model.state_dict()
        encoder = {k: v for k, v in state.items() if k.startswith('image_tower.encoder.')}
        torch.save({'model': encoder}, self.folder / 'regions.pt')
        torch.save({'model': state}, self.folder / 'read.pt')
        UnifiedMLLMProcessor.from_pretrained(folder).save_pretrained(self.folder)

    def processor(self) -> UnifiedMLLMProcessor:
        """The processor; its tokenizer is learnt at the first call."""
        if not (self.folder / 'tokenizer.json').exists():
            tokenizer = build_tokenizer(spoken(Random(0), CORPUS_LINES, self.lexicon), TEXT_TOKENS)
            nano_processor(tokenizer).save_pretrained(self.folder)
        return UnifiedMLLMProcessor.from_pretrained(self.folder)

    def model(self, *checkpoints: str) -> UnifiedMLLMForConditionalGeneration:
        """The model with the checkpoints that exist, later ones over earlier ones."""
        torch.manual_seed(0)
        model = new_model(self.processor(), self.lexicon)
        for name in checkpoints:
            file = self.folder / f'{name}.pt'
            if file.exists():
                state = torch.load(file, weights_only=True)
                model.load_state_dict(state['model'], strict=False)
        return model

    def cache(
        self, data: Path, scenes: list[SceneRecord], backbone: EfficientNetLite0
    ) -> FrontCache:
        """The front's features of a data folder's scenes, computed where they are missing."""
        cache = FrontCache.open(self.folder / f'features-{data.name}', IMAGE_SIZE, CACHE_CAPACITY)
        cache.extend(data, scenes, backbone.eval())
        return cache


def dialogues(scene: SceneRecord, rng: Random, count: int, lexicon: Lexicon) -> list[Dialogue]:
    """Pairs of a scene: often a true dialogue, and questions of which one in six continues."""
    made = []
    if rng.random() < DIALOGUE_SHARE:
        talk = dialogue(scene, rng, 'train', 3, lexicon)
        made.append(Dialogue(tuple((q.text, q.answer_text) for q in talk)))
    turns = [_spelled(question, rng) for question in _asked(scene, rng, count, lexicon)]
    while turns:
        length = rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 3))
        made.append(Dialogue(tuple(turns[:length])))
        turns = turns[length:]
    # What does not fit into the sequence is left out from the end.
    rng.shuffle(made)
    return made


def _spelled(question: Question, rng: Random) -> tuple[str, str]:
    """Text and answer; some arguments are jumbled, so that they must be copied, not recognised."""
    if question.kind in MADE_OF_WORDS and rng.random() < JUMBLED_SHARE:
        argument, other = question.answer.calls[0].argument, jumbled(rng)
        text = question.text.replace(argument, other)
        if text != question.text and MEDIA.search(question.template) and not held_out(other):
            return text, format(Response((TaskCall(question.kind, other),)))
    return question.text, question.answer_text


def jumbled(rng: Random) -> str:
    """The beginning of one composition and the end of another, or words that mean nothing."""
    if rng.random() < 0.5:
        return ' '.join(rng.choices(rng.choice((WORDS, ANY_WORDS)), k=rng.randint(1, 6)))
    head, tail = (composed(rng.choice(MADE_OF_WORDS), rng, 'train').split() for _ in range(2))
    return ' '.join(head[: rng.randint(1, len(head))] + tail[rng.randrange(len(tail)) :])


def spoken(rng: Random, count: int, lexicon: Lexicon) -> Iterator[str]:
    """`count` lines of questions and answers, alone and in dialogues: what tokens are learnt on."""
    yield from corpus(rng, count * 4 // 5, 'train', lexicon)
    for _ in range(count // 5 // 6):
        for question in dialogue(sample_scene(rng, lexicon), rng, 'train', 3, lexicon):
            yield f' {question.text}'
            yield f' {question.answer_text}'


def _asked(scene: SceneRecord, rng: Random, count: int, lexicon: Lexicon) -> list[Question]:
    # Often only what is learnt last: what needs more than one thing to be looked at, or composed.
    groups, shares = zip(*MIXTURE, strict=True)
    kinds = rng.choices(groups, weights=shares)[0]
    return questions(scene, rng, 'train', kinds, count, lexicon)


def stack(regions: Sequence[Regions]) -> Regions:
    """Concatenate batches of regions."""
    return Regions(
        *(torch.cat([getattr(r, name) for r in regions]) for name in Regions.__dataclass_fields__)
    )


def train_regions(
    shop: Workshop, data: Path, scenes: list[SceneRecord], recipe: RegionHeadRecipe
) -> None:
    """Phase `regions`; call again with more scenes to go on from the last checkpoint."""
    model = shop.model('regions')
    encoder = model.image_tower.encoder
    words = [word_rows(s, encoder.config.words, shop.lexicon) for s in scenes]
    cache = shop.cache(data, scenes, encoder.backbone)

    def save() -> None:
        state = {f'image_tower.encoder.{k}': v for k, v in encoder.state_dict().items()}
        torch.save({'model': state}, shop.folder / 'regions.pt')

    train_region_head(encoder, cache, scenes, words, recipe, shop.folder / 'regions.jsonl', save)


def find_all(shop: Workshop, data: Path, scenes: list[SceneRecord]) -> Regions:
    """The regions that the trained encoder sees in every scene."""
    model = shop.model('regions')
    encoder = model.image_tower.encoder.eval()
    cache = shop.cache(data, scenes, encoder.backbone)
    parts = [
        find_regions(encoder, cache.batch(np.arange(start, min(start + 16, len(scenes)))))
        for start in range(0, len(scenes), 16)
    ]
    return stack(parts)


def read(
    shop: Workshop,
    bank: Regions,
    scenes: list[SceneRecord],
    recipe: LanguageRecipe,
    imagined: float = 0.2,
) -> None:
    """Phase `read`: the language model on what the encoder really sees, with some imagined
    scenes among them, which keep it from learning the training images by heart."""
    model = shop.model('read', 'regions')
    collate = AnswerCollator(shop.processor(), recipe.length)
    vision = model.config.vision_config

    def one(rng: np.random.Generator, seed: Random) -> tuple[Regions, SceneRecord]:
        if rng.random() < imagined:
            scene = sample_scene(seed, shop.lexicon)
            words = word_rows(scene, vision.words, shop.lexicon)
            return imagine_regions(scene, words, vision.regions, vision.width, rng), scene
        index = int(rng.integers(len(scenes)))
        regions, scene = bank.map(lambda x: x[index : index + 1]), scenes[index]
        if rng.random() < 0.5:
            return mirror(regions), scene.mirrored()
        return regions, scene

    def next_batch(size: int, rng: np.random.Generator) -> tuple[Batch, Regions]:
        seed = Random(int(rng.integers(2**62)))
        picked = [one(rng, seed) for _ in range(size)]
        pairs = [dialogues(scene, seed, recipe.questions, shop.lexicon) for _, scene in picked]
        return collate(pairs), stack([regions for regions, _ in picked])

    if not (shop.folder / 'read.pt').exists():
        prepare_copying(model, bank.map(lambda x: x[:COPY_SCENES]))
    train_language(model, next_batch, recipe, shop.folder, 'read')


def conversations(scenes: Sequence[SceneRecord], lexicon: Lexicon) -> Iterator[Conversation]:
    """What phase `read` asks about scenes, with the same shares of kinds and of jumbled words."""
    for draw in range(WRITTEN_DRAWS):
        rng = Random(f'write/{draw}')
        for scene in scenes:
            talks = dialogues(scene, rng, WRITTEN_QUESTIONS, lexicon)
            for number, talk in enumerate(talks):
                yield Conversation(
                    id=f'{LESSONS.stem}-{scene.id}-{draw}-{number}',
                    kind='tabletop',
                    image=scene.image,
                    turns=tuple(
                        turn
                        for question, answer in talk.turns
                        for turn in (
                            Turn(role='user', text=question),
                            Turn(role='assistant', text=answer),
                        )
                    ),
                )


def write(data: Path, scenes: Sequence[SceneRecord], lexicon: Lexicon) -> None:
    """Phase `write`: all lessons, and those of them that lay something out once more."""
    lessons = list(conversations(scenes, lexicon))
    write_conversations(data / LESSONS, lessons)
    layouts = (talk for talk in lessons if any('<layout>' in turn.text for turn in talk.turns))
    write_conversations(data / LAYOUTS, layouts)


def masks(shop: Workshop, data: Path, scenes: list[SceneRecord], recipe: MaskRecipe) -> MaskNetwork:
    """Phase `mask`."""
    torch.manual_seed(recipe.seed)
    model = MaskNetwork()
    crops, truth = crop_bank(data, scenes, recipe)
    train_mask_network(model, crops, truth, recipe, shop.folder / 'mask.jsonl')
    torch.save({'model': model.state_dict()}, shop.folder / 'mask.pt')
    return model


def export(shop: Workshop, out: Path, data: Path, scenes: Sequence[SceneRecord]) -> None:
    """Phase `export`: safetensors in half precision, tokenizer, configuration and graphs.

    The vision graph gets its convolutions in 8 bits; the first pictures of the training scenes set
    their ranges.
    """
    model = shop.model('read', 'regions')
    folder = out / NANO
    # The head's norms stay: they must go on learning where a training starts from this model.
    fold_batch_norms(model.image_tower.encoder.backbone)
    convert(model, torch.float16).save_pretrained(folder)
    embedded_adapter.remove(folder)  # that of stage 3 was learnt on other weights
    processor = shop.processor()
    shown = [read_picture(data, scene) for scene in scenes[:PICTURES]]
    examples = [Example(processor.pixels(picture), ()) for picture in shown]
    export_model(model, NANO, folder / 'onnx', examples=examples, int8_vision=True)
    processor.save_pretrained(folder)
    mask = MaskNetwork()
    mask.load_state_dict(torch.load(shop.folder / 'mask.pt', weights_only=True)['model'])
    export_mask_network(mask, out / MASK / 'mask.onnx')


def run(
    data: Path,
    work: Path,
    out: Path,
    phases: Sequence[str],
    limit: int | None,
    threads: int,
    steps: dict[str, int | None],
    start: Path | None = None,
) -> None:
    """Run phases in the order given.

    `steps` overrides a phase's number of steps; `start` is a trained model to go on from.
    """
    torch.set_num_threads(threads)
    shop = Workshop.open(work)
    if start:
        shop.begin_from(start)
    scenes = list(islice(read_scenes(data / 'scenes.jsonl'), limit))

    def given(phase: str) -> dict[str, int]:
        value = steps.get(phase)
        return {} if value is None else {'steps': value}

    for phase in phases:
        if phase == 'regions':
            train_regions(shop, data, scenes, RegionHeadRecipe(**given(phase)))
        elif phase == 'read':
            bank = find_all(shop, data, scenes)
            read(shop, bank, scenes, LanguageRecipe(**given(phase)))
        elif phase == 'mask':
            masks(shop, data, scenes, MaskRecipe(**given(phase)))
        elif phase == 'export':
            export(shop, out, data, scenes)
        elif phase == 'write':
            write(data, scenes, shop.lexicon)
