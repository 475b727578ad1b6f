"""Settings of a training stage: what a file under config/training/ may say.

Knows nothing of torch: a file is checked before anything heavy is loaded. Paths of data are
relative to `data_root`, paths of models are a folder or a name under models/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.locations import share

Part = Literal['adapters', 'image_encoder', 'audio_encoder']
Positive = Annotated[float, Field(gt=0)]
PARTS: tuple[Part, ...] = ('adapters', 'image_encoder', 'audio_encoder')


class Section(BaseModel):
    """A part of the file; an unknown field is an error."""

    model_config = ConfigDict(extra='forbid', frozen=True, protected_namespaces=())


class ModelSettings(Section):
    """The model that the stage begins with: `start`, or a fresh one of a `preset`.

    start: folder of a model of ours, of an earlier stage's result, or a name under models/.
    adapter: take the LoRAMoE adapter that lies in the folder beside a whole model too; without it,
    the model below it is the beginning.
    preset: name or file of a preset. language_model: folder, name on the hub, or
    `package:NAME/FILE` for a GGUF file that a Python package carries; it brings the tokenizer.
    vision, audio: folder or name of weights of the encoder; without, it begins untrained. seed: of
    what begins untrained.
    """

    start: str = ''
    adapter: bool = True
    preset: str = ''
    language_model: str = ''
    vision: str = ''
    audio: str = ''
    seed: int = 0

    @model_validator(mode='after')
    def _one_beginning(self) -> ModelSettings:
        if bool(self.start) == bool(self.preset):
            raise ValueError('give either start (a model) or preset (sizes of a fresh one)')
        if self.preset and not self.language_model:
            raise ValueError('a fresh model needs language_model: where weights and tokenizer are')
        if self.start and (self.language_model or self.vision or self.audio):
            raise ValueError('language_model, vision and audio belong to a preset, not to start')
        return self


class SourceSettings(Section):
    """One file of conversations (.jsonl), or a folder or glob of shards (.tar).

    weight: share in the mixture, any scale. experts: which half of the experts the balancing loss
    gives the source's samples to; auto: the first for answers with a task call, else the second.
    """

    path: str
    weight: Positive = 1.0
    experts: Literal['auto', 'first', 'second'] = 'auto'


class LoraSettings(Section):
    """One low-rank adapter on all linears of the language model (or on `targets`)."""

    r: int = Field(default=64, ge=1)
    alpha: Positive = 128.0
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: tuple[str, ...] = ()


class LoraMoESettings(Section):
    """LoRAMoE on the feed-forward linears; see `LoraMoEConfig`. balance_weight 0: no such loss."""

    r: int = Field(default=4, ge=1)
    alpha: Positive = 32.0
    experts: int = Field(default=8, ge=2)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    balance_delta: float = Field(default=0.1, ge=0, lt=1)
    balance_weight: float = Field(default=0.1, ge=0)


class TrainableSettings(Section):
    """What learns; everything else is frozen.

    parts: adapters (the projectors, and the video branch's Q-Former), image_encoder,
    audio_encoder. new_tokens: the embeddings of markers, numbers and chat tokens, where the
    language model does not learn as a whole.
    """

    parts: tuple[Part, ...] = ()
    language_model: Literal['frozen', 'full', 'lora', 'loramoe'] = 'frozen'
    lora: LoraSettings = LoraSettings()
    loramoe: LoraMoESettings = LoraMoESettings()
    new_tokens: bool = False

    @model_validator(mode='after')
    def _something(self) -> TrainableSettings:
        if not self.parts and self.language_model == 'frozen' and not self.new_tokens:
            raise ValueError('nothing is trained: name parts, or let the language model learn')
        return self


class OptimiserSettings(Section):
    """Optimiser and schedule. rates: learning rates of adapters and encoders where they differ."""

    name: Literal['adamw', 'adafactor', 'sgd'] = 'adamw'
    learning_rate: Positive = 2e-5
    rates: dict[Literal['adapters', 'encoders'], Positive] = {}
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: Positive = 1.0
    schedule: Literal['constant', 'linear', 'cosine', 'decay_at_end'] = 'cosine'
    warmup: float = Field(default=0.03, ge=0, lt=1)
    decay: float = Field(default=0.2, ge=0, le=1)


class BatchSettings(Section):
    """Sizes. size: samples of one step over all processes; per_device: at a time on one of them.

    length: most tokens of a sample; what is longer is cut at its end, and counted. group: samples
    of like length come together, so that little is padded. workers: processes that read data
    beside each training process.
    """

    size: int = Field(default=16, ge=1)
    per_device: int = Field(default=16, ge=1)
    length: int = Field(default=2048, ge=16)
    group: bool = True
    workers: int = Field(default=0, ge=0)


class EvaluationSettings(Section):
    """Loss on conversations that are not trained on, every so many steps."""

    path: str
    every: Annotated[int, Field(ge=1)] = 500
    samples: Annotated[int, Field(ge=1)] = 256


class SavingSettings(Section):
    """Checkpoints every so many steps; the newest `keep` of them stay. half: the result's numbers
    in float16, as graphs store them."""

    every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)
    half: bool = False


class StageSettings(Section):
    """One run of a stage.

    precision: bf16 or fp32. compile: compile the decoder layers (worth it from some hundred steps
    on). number_softness: standard deviation, in coordinates, that the target of a coordinate is
    spread with; 0: the coordinate alone. cache_regions: find the regions of every picture once,
    before the first step (for the region encoder, frozen). weight_bits: what learns of the language
    model learns rounded to so many bits, as an export to int4 rounds (see `weight_rounding`).
    teacher: a model, named as `start` is, whose distribution over each next token is learnt in the
    place of the answer's own tokens.
    threads: CPU threads, 0 for all.
    """

    stage: Literal[1, 2, 3]
    model: ModelSettings
    data: tuple[SourceSettings, ...] = Field(min_length=1)
    data_root: Path = Path()
    out: Path
    trainable: TrainableSettings
    optimiser: OptimiserSettings = OptimiserSettings()
    batch: BatchSettings = BatchSettings()
    steps: int = Field(ge=1)
    precision: Literal['bf16', 'fp32'] = 'bf16'
    gradient_checkpointing: bool = False
    compile: bool = False
    number_softness: float = Field(default=0.0, ge=0, le=0.1)
    cache_regions: bool = False
    weight_bits: Literal[4] | None = None
    teacher: str = ''
    evaluation: EvaluationSettings | None = None
    saving: SavingSettings = SavingSettings()
    log_every: int = Field(default=10, ge=1)
    seed: int = 0
    threads: int = Field(default=0, ge=0)

    @model_validator(mode='after')
    def _consistent(self) -> StageSettings:
        language, parts = self.trainable.language_model, self.trainable.parts
        if self.stage == 1 and language != 'frozen':
            raise ValueError('stage 1 trains adapters and encoders: language_model must be frozen')
        if self.stage == 2 and language not in ('full', 'lora'):
            raise ValueError('stage 2 trains the language model: full or lora')
        if self.stage == 3 and self.batch.per_device < 2 and self._balanced:
            raise ValueError('the balancing loss compares samples: batch.per_device must be 2 up')
        if self.cache_regions and 'image_encoder' in parts:
            raise ValueError('cache_regions needs a frozen image_encoder: take it out of parts')
        if self.weight_bits and language not in ('full', 'loramoe'):
            raise ValueError(
                f'weight_bits rounds what learns as a whole: language_model full or loramoe, '
                f'not {language}'
            )
        return self

    @property
    def _balanced(self) -> bool:
        loramoe = self.trainable.language_model == 'loramoe'
        return loramoe and self.trainable.loramoe.balance_weight > 0


class PhaseSettings(Section):
    """A stage of `tabletop-nano` that a phase of its own recipe trains (training/pipeline.py).

    data: folder made by `unifiedmllm data tabletop`, below data_root. out: the work folder, which
    the phases share. begin_from: a trained model to go on from.
    """

    stage: Literal[1, 2]
    phase: Literal['regions', 'read']
    data: str
    data_root: Path = Path()
    out: Path
    steps: int = Field(ge=1)
    begin_from: Path | None = None
    scenes: Annotated[int, Field(ge=1)] | None = None
    threads: int = Field(default=2, ge=1)


Settings = StageSettings | PhaseSettings


def read_settings(
    file: Path,
    stage: int,
    *,
    data_root: Path | None = None,
    out: Path | None = None,
    steps: int | None = None,
) -> Settings:
    """Read a file, with what the command line overrides.

    Raises ConfigError, naming file, field and what is wrong with it; also where the file is for
    another stage.
    """
    path = file if file.is_file() else _shared(file)
    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f'{path}: cannot be read as YAML: {error}') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: must hold fields such as stage, model and data')
    given = {'data_root': data_root, 'out': out, 'steps': steps}
    values.update({name: value for name, value in given.items() if value is not None})
    kind = PhaseSettings if 'phase' in values else StageSettings
    try:
        settings = kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f'{path}: {_described(error)}') from error
    if settings.stage != stage:
        raise ConfigError(f'{path} is for stage {settings.stage}: run train stage{settings.stage}')
    return settings


def _shared(file: Path) -> Path:
    """Configurations that an installation carries are found from everywhere."""
    return share(f'config/training/{file.name}') if file.parent == Path() else file


def _described(error: ValidationError) -> str:
    return '; '.join(
        f'field {".".join(map(str, found["loc"])) or "(all)"}: {found["msg"]}'
        for found in error.errors()
    )
