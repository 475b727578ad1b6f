"""Runs a stage: `unifiedmllm train stage1|stage2|stage3`.

What is left in `out`: checkpoints, `model/` (the result, see results.py), runs/ (TensorBoard) and
summary.json.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint

from unifiedmllm_ros.errors import ConfigError, NotFiniteError, UnifiedMLLMError, WriteError
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.training import parts
from unifiedmllm_ros.training.arguments import arguments
from unifiedmllm_ros.training.beginning import Beginning, begin
from unifiedmllm_ros.training.regions_cache import RegionsCache
from unifiedmllm_ros.training.results import (
    Base,
    check_architecture,
    load_to_run,
    write_summary,
)
from unifiedmllm_ros.training.samples import Collator, Samples, mixed_order
from unifiedmllm_ros.training.settings import SourceSettings, StageSettings
from unifiedmllm_ros.training.sources import Source
from unifiedmllm_ros.training.trainer import StageTrainer
from unifiedmllm_ros.training.weight_rounding import round_linears, settle

MODEL = 'model'


class Interruption(TrainerCallback):
    """Ctrl-C or SIGTERM ends the run after the present step, with a checkpoint.

    All processes stop at the same step, whichever of them was told.
    """

    def __init__(self) -> None:
        self.wanted = self.happened = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Stop where one was told to."""
        wanted = self.wanted
        if args.world_size > 1:
            flag = torch.tensor(float(wanted), device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            wanted = bool(flag)
        if wanted:
            self.happened = True
            control.should_save = control.should_training_stop = True
        return control

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While it lasts, signals are kept for the end of the step; a second one is immediate."""
        kept = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, _: Any) -> None:
            if self.wanted:
                raise KeyboardInterrupt
            self.wanted = True
            print('\nstopping after this step; once more to stop at once', flush=True)

        for number in kept:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)


class IdleBranches(TrainerCallback):
    """What a step did not use has a gradient of zero, not none.

    The optimiser then treats it as several processes do, of which another one may have used it.
    """

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Fill up the gradients."""
        if args.world_size == 1:
            for parameter in given['model'].parameters():
                if parameter.requires_grad and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)


def run(settings: StageSettings, resume: bool = False) -> dict[str, Any]:
    """Train; returns the summary, which also lies in `out`.

    resume: go on from the newest checkpoint in `out`. Raises ConfigError, ModelFileError,
    ConversationError, ShardError, MediaError, NotFiniteError, WriteError.
    """
    started = time.monotonic()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    checkpoint = _checkpoint(settings.out, resume)
    settings.out.mkdir(parents=True, exist_ok=True)
    set_seed(settings.seed)
    begun = begin(settings.model)
    trainer = make_trainer(settings, begun)
    if checkpoint is not None:
        check_architecture(checkpoint, trainer.model)
    _check_whole(trainer, settings)
    interruption = Interruption()
    trainer.add_callback(interruption)
    trainer.add_callback(IdleBranches())
    with interruption.watched():
        _train(trainer, checkpoint)
    settle(trainer.model)
    _save_result(trainer, settings.out / MODEL, settings.saving.half)
    summary = _summary(trainer, settings, time.monotonic() - started)
    summary['interrupted'] = interruption.happened
    if trainer.args.should_save:
        write_summary(settings.out, summary)
    return summary


def make_trainer(settings: StageSettings, begun: Beginning) -> StageTrainer:
    """Everything up to the first step: data indexed and checked, parts let go, Trainer made."""
    processor = begun.processor
    base = begun.model.get_base_model() if begun.adapter else begun.model
    encoder = base.image_tower.encoder
    sources = [Source(each.path, settings.data_root, processor) for each in settings.data]
    held = _held(settings, processor)
    cache = None
    if settings.cache_regions:
        everything = [*sources, *(held.sources if held else ())]
        cache = RegionsCache.open(settings.out.parent, _pictures(everything), encoder, processor)
        if held:
            held.regions = cache
    told = arguments(settings, int(os.environ.get('WORLD_SIZE', '1')), logged=True)
    order = mixed_order(sources, settings.data, settings.batch, settings.steps, settings.seed)
    experts = [each.experts for each in settings.data]
    model = parts.let_learn(begun, settings.trainable)
    if settings.precision == 'bf16' and settings.trainable.language_model != 'full':
        parts.shrink_frozen(model)
    if settings.weight_bits:
        round_linears(base.language_model)
    _quicken(base.language_model, settings.compile)
    return StageTrainer(
        settings=settings,
        base=Base.of(settings.model, begun.adapter),
        teacher=_teacher(settings, processor),
        model=model,
        args=told,
        train_dataset=Samples(processor, sources, experts, order, settings.batch.length, cache),
        eval_dataset=held,
        data_collator=Collator(processor),
        processing_class=processor,
    )


def _quicken(language_model: Any, compiled: bool) -> None:
    if not torch.cuda.is_available():
        # On a CPU the backward pass of fused attention takes longer than all of plain attention.
        language_model.set_attn_implementation('eager')
    if compiled:
        for layer in language_model.base_model.layers:
            layer.compile(dynamic=True)


def _teacher(settings: StageSettings, processor: Any) -> Any:
    """The model that is learnt from, frozen; None where answers are."""
    if not settings.teacher:
        return None
    begun = load_to_run(model_folder(settings.teacher))
    same = begun.processor.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    if not same or begun.processor.config != processor.config:
        raise ConfigError(
            f'teacher {settings.teacher} has other tokens or other media than the model that '
            'learns: choose one that was made from the same preset and tokenizer'
        )
    base = begun.model.get_base_model() if begun.adapter else begun.model
    _quicken(base.language_model, settings.compile)
    return begun.model.requires_grad_(False)


def _held(settings: StageSettings, processor: Any) -> Samples | None:
    """The conversations of the evaluation."""
    if settings.evaluation is None:
        return None
    wanted = SourceSettings(path=settings.evaluation.path)
    source = Source(wanted.path, settings.data_root, processor)
    count = min(len(source), settings.evaluation.samples)
    order = [(0, row) for row in range(count)]
    return Samples(processor, [source], [wanted.experts], order, settings.batch.length)


def _pictures(sources: list[Source]) -> Iterator[Path]:
    for source in sources:
        for index, entry in enumerate(source.entries):
            if entry.media:
                raise ConfigError(f'{source.name}: cache_regions needs files, not shards')
            picture = source.read(index)[1].get('image')
            if isinstance(picture, Path):
                yield picture


def _checkpoint(out: Path, resume: bool) -> Path | None:
    found = get_last_checkpoint(str(out)) if out.is_dir() else None
    if found and not resume:
        raise ConfigError(
            f'{out} holds {Path(found).name}: go on from it with --resume, or give another --out'
        )
    return Path(found) if found else None


def _check_whole(trainer: StageTrainer, settings: StageSettings) -> None:
    """A block of weights is rounded as a whole: none may be split over processes."""
    if settings.weight_bits and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ConfigError(
            'weight_bits does not go with FSDP or DeepSpeed, which split weights over processes: '
            'start the run without their configuration'
        )


def _train(trainer: StageTrainer, checkpoint: Path | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except (WriteError, NotFiniteError):
        raise
    except UnifiedMLLMError:
        # What is done is not lost; several processes would wait for one another here.
        if trainer.accelerator.num_processes == 1:
            trainer.save_here()
        raise


def _save_result(trainer: StageTrainer, folder: Path, half: bool) -> None:
    """Beside and then renamed, as checkpoints are."""
    partial = folder.with_name(f'{folder.name}.partial')
    try:
        trainer.save_model(str(partial))
        if trainer.args.should_save:
            (partial / 'training_args.bin').unlink(missing_ok=True)
            for file in partial.glob('*.safetensors') if half else ():
                _store_half(file)
            old = folder.with_name(f'{folder.name}.old')
            if folder.is_dir():
                folder.rename(old)
            partial.rename(folder)
            _remove(old)
    except Exception as error:
        _remove(partial)
        raise WriteError(
            f'{folder} could not be written ({" ".join(str(error).split())[:200]}): make room, and '
            'run again with --resume'
        ) from error


def _store_half(file: Path) -> None:
    with safe_open(file, 'pt') as tensors:
        described = tensors.metadata()
        halves = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    halves = {name: t.half() if t.is_floating_point() else t for name, t in halves.items()}
    save_file(halves, file, described)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _summary(trainer: StageTrainer, settings: StageSettings, seconds: float) -> dict[str, Any]:
    history = trainer.state.log_history
    losses = [row['loss'] for row in history if 'loss' in row]
    evaluated = [row['eval_loss'] for row in history if 'eval_loss' in row]
    learning, total = parts.counts(trainer.model)
    return {
        'stage': settings.stage,
        'language_model': settings.trainable.language_model,
        'steps': trainer.state.global_step,
        'wanted_steps': settings.steps,
        'seconds': round(seconds, 1),
        'parameters_learning': learning,
        'parameters': total,
        'first_loss': losses[0] if losses else None,
        'last_loss': losses[-1] if losses else None,
        'evaluation_loss': evaluated[-1] if evaluated else None,
        'processes': trainer.accelerator.num_processes,
        **trainer.measures.report(trainer.accelerator.num_processes),
        'conversations': {s.name: len(s) for s in trainer.train_dataset.sources},
        'model': str(settings.out / MODEL),
    }


def described(summary: dict[str, Any]) -> str:
    """The summary for people."""

    def shown(name: str, form: str = '{}') -> str:
        value = summary[name]
        return '-' if value is None else form.format(value)

    done = 'stopped' if summary['interrupted'] else 'done'
    return '\n'.join(
        (
            f'stage {summary["stage"]} {done}: {summary["steps"]} of {summary["wanted_steps"]} '
            f'steps in {summary["seconds"]:.0f} s on {summary["device"]}',
            f'  loss         {shown("first_loss", "{:.4f}")} -> {shown("last_loss", "{:.4f}")}, '
            f'evaluation {shown("evaluation_loss", "{:.4f}")}',
            f'  speed        {summary["tokens_per_second"]} tokens/s, '
            f'{summary["samples_per_second"]} samples/s, {summary["seconds_per_step"]} s a step',
            f'  data         waited {100 * summary["waiting_for_data"]:.1f} % of the time, '
            f'{summary["cut_samples"]} samples cut',
            f'  memory       {summary["peak_memory_mib"]} MiB at most; '
            f'MFU {shown("mfu", "{:.3f}")}',
            f'  learning     {summary["parameters_learning"]:,} of {summary["parameters"]:,} '
            'parameters',
            f'  model        {summary["model"]}',
        )
    )
