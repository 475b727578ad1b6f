"""The Trainer of `transformers`, fitted to UnifiedMLLM: loss, order of data, checkpoints, cost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from unifiedmllm_ros.errors import NotFiniteError, WriteError
from unifiedmllm_ros.model.balancing import balancing_loss, record_routing
from unifiedmllm_ros.model.loramoe import LORAMOE
from unifiedmllm_ros.model.regions import Regions
from unifiedmllm_ros.training.loss import answer_loss, distillation_loss, wanted_rows
from unifiedmllm_ros.training.measures import (
    Measures,
    operations_per_answer_token,
    operations_per_token,
)
from unifiedmllm_ros.training.parts import ADAPTERS, ENCODERS, hold_norms
from unifiedmllm_ros.training.regions_cache import FIELDS
from unifiedmllm_ros.training.results import Base
from unifiedmllm_ros.training.settings import StageSettings

PARTIAL = '.partial'
MEDIA = ('pixel_values', 'pixel_values_videos', 'audio_values')


class StageTrainer(Trainer):
    """Trains one stage. The model gives logits of answers alone; the loss is computed here."""

    def __init__(
        self, *, settings: StageSettings, base: Base, teacher: Any = None, **kwargs: Any
    ) -> None:
        """teacher: a model that is learnt from; see StageSettings."""
        super().__init__(**kwargs)
        self.settings, self.base = settings, base
        self._teacher = None if teacher is None else teacher.to(self.args.device)
        self.measures, self._beside = Measures(), ''
        self.model_accepts_loss_kwargs = True  # losses come divided by the tokens of the whole step
        self.parts: dict[str, float] = {}
        self._waited, self._mark = 0.0, time.monotonic()
        self._each = operations_per_token(self.model)
        self._answer = operations_per_answer_token(self.model)
        peft = getattr(self.model, 'peft_config', {}).get('default')
        self._loramoe: Any = peft if getattr(peft, 'peft_type', None) == LORAMOE else None
        self._first_number = self.model.config.first_number_id
        towers = (p for n, p in self.model.named_parameters() if '_tower.' in n)
        self._exercised = self.accelerator.num_processes > 1 and any(
            p.requires_grad for p in towers
        )

    # Data

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        """The order is the data set's own."""
        return SequentialSampler(train_dataset or self.train_dataset)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """As usual, with the time taken."""
        began = time.monotonic()
        if not self.measures.steps:
            self._mark = began
        found = super().get_batch_samples(*args, **kwargs)
        self._waited = time.monotonic() - began
        return found

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """What happens here is no part of a step's time."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._mark += time.monotonic() - began

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As usual."""
        with self._apart():
            return super().evaluate(*args, **kwargs)

    # Loss

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Cross entropy of the answers a token, and the balancing loss of LoRAMoE.

        With a teacher what is learnt is its distribution; what is evaluated stays the answers.
        Raises NotFiniteError, after saving the batch, where the loss is NaN or infinite.
        """
        hold_norms(model)
        labels = inputs['labels']
        wanted = wanted_rows(labels)
        targets = labels[:, 1:][wanted[:, :-1]]
        with record_routing(model) as routing:
            output = model(**self._model_inputs(inputs), wanted=wanted, use_cache=False)
        logits = output.logits.squeeze(0)
        if self._teacher is not None and self.model.training:
            loss = distillation_loss(logits, self._taught(inputs, wanted))
        else:
            softness = self.settings.number_softness
            loss = answer_loss(logits, targets, self._first_number, softness)
        # A step may have nothing to learn, where every answer was cut off.
        counted = len(targets) if num_items_in_batch is None else int(num_items_in_batch)
        loss = loss / max(1, counted)
        distributed = num_items_in_batch is not None
        if distributed and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes
        balance = self._balance(routing, inputs)
        if balance is not None:
            self.parts['balance'] = float(balance.detach())
            # Divided as the other loss is: each of the step's passes adds its share.
            loss = loss + balance / (self.current_gradient_accumulation_steps if distributed else 1)
        if not bool(torch.isfinite(loss)):
            self._stop_at(inputs, float(loss.detach()))
        if self.model.training and not loss.requires_grad:
            loss.requires_grad_()  # no medium that the adapters of stage 1 could learn from
        return (loss, output) if return_outputs else loss

    @torch.no_grad()
    def _taught(self, inputs: dict[str, Any], wanted: Tensor) -> Tensor:
        """The teacher's logits of the answers, (M, vocabulary)."""
        teacher: Any = self._teacher
        said = teacher(**self._model_inputs(inputs), wanted=wanted, use_cache=False)
        return said.logits.squeeze(0)

    def _balance(self, routing: Any, inputs: dict[str, Any]) -> Tensor | None:
        if self._loramoe is None or not self._loramoe.balance_weight or not self.model.training:
            return None
        if len(inputs['experts']) < 2:
            return None
        mask = inputs['attention_mask']
        return balancing_loss(routing, self._loramoe, inputs['experts'], mask)

    def _model_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        kept = {name: inputs[name] for name in ('input_ids', 'attention_mask')}
        kept.update({name: inputs[name] for name in MEDIA if name in inputs})
        if 'pixel_values' in kept:  # convolutions take it in half the time
            kept['pixel_values'] = kept['pixel_values'].contiguous(
                memory_format=torch.channels_last
            )
        if f'regions_{FIELDS[0]}' in inputs:
            kept['regions'] = Regions(*(inputs[f'regions_{name}'] for name in FIELDS))
        if self._exercised and self.model.training:
            kept['exercise'] = True
        return kept

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """A pass forward and backward, counted."""
        tokens = int(inputs['attention_mask'].sum())
        answers = int(wanted_rows(inputs['labels']).sum())
        self.measures.cut += int(inputs['cut'])
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._count(tokens, len(inputs['labels']), answers)
        return loss

    def _count(self, tokens: int, samples: int, answers: int) -> None:
        now = time.monotonic()
        if self.measures.steps:
            self.measures.operations += tokens * self._each + answers * self._answer
        self.measures.add(tokens, samples, self._waited, now - self._mark)
        self._mark, self._waited = now, 0.0

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: Any = None,
    ) -> tuple[Any, None, None]:
        """The mean loss of a batch's answers."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the parts of the loss and the speed."""
        if 'loss' in logs:
            report = self.measures.report(self.accelerator.num_processes)
            names = ('tokens_per_second', 'waiting_for_data')
            logs = {**logs, **self.parts, **{name: report[name] for name in names}}
        super().log(logs, *args, **kwargs)

    # Optimiser

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As usual, with learning rates of their own for adapters and encoders."""
        if getattr(self, 'optimizer', None) is None and self.settings.optimiser.rates:
            cls, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = cls(self._groups(model or self.model), **options)
        return super().create_optimizer(model)

    def _groups(self, model: Any) -> list[dict[str, Any]]:
        decayed = set(self.get_decay_parameter_names(model))
        rates = self.settings.optimiser.rates
        groups: dict[tuple[float, float], list[Any]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                rate = rates.get(_kind(name), self.args.learning_rate)  # type: ignore[call-overload]
                decay = self.args.weight_decay if name in decayed else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        return [
            {'params': some, 'lr': rate, 'weight_decay': decay}
            for (rate, decay), some in groups.items()
        ]

    # Checkpoints

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights and processor; beside an adapter what its base is."""
        super()._save(output_dir, state_dict)
        if self.args.should_save and hasattr(self.model, 'peft_config'):
            self.base.write(Path(output_dir or self.args.output_dir))

    def _get_output_dir(self, trial: Any) -> str:
        return self._beside or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        with self._apart():
            self._write_checkpoint(model, trial)

    def _write_checkpoint(self, model: Any, trial: Any) -> None:
        """Written beside and then renamed, so that what has the name is whole.

        Raises WriteError where it could not be written; earlier checkpoints are untouched.
        """
        out = Path(self.args.output_dir)
        name = f'checkpoint-{self.state.global_step}'
        self._beside = str(out / PARTIAL)
        try:
            if self.args.should_save:
                shutil.rmtree(out / PARTIAL, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
        except Exception as error:
            shutil.rmtree(out / PARTIAL, ignore_errors=True)
            raise WriteError(
                f'{out / name} could not be written ({" ".join(str(error).split())[:200]}); '
                'earlier checkpoints are whole: make room and go on with --resume'
            ) from error
        finally:
            self._beside = ''
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            shutil.rmtree(out / name, ignore_errors=True)
            (out / PARTIAL / name).rename(out / name)
            (out / PARTIAL).rmdir()
            rotate_checkpoints(output_dir=str(out), save_total_limit=self.args.save_total_limit)
        self.accelerator.wait_for_everyone()

    def save_here(self) -> None:
        """Write a checkpoint of the steps that are done, unless there is one."""
        done = self.state.global_step
        if done and not (Path(self.args.output_dir) / f'checkpoint-{done}').is_dir():
            self._save_checkpoint(self.model)

    def _stop_at(self, inputs: dict[str, Any], loss: float) -> None:
        step = self.state.global_step + 1
        file = (
            Path(self.args.output_dir) / f'bad-batch-{step}-{self.args.process_index}.safetensors'
        )
        tensors = {n: v.contiguous().cpu() for n, v in inputs.items() if isinstance(v, Tensor)}
        save_file(tensors, file, {'names': '\n'.join(inputs['names']), 'step': str(step)})
        raise NotFiniteError(
            f'the loss is {loss} at step {step}: the batch is in {file} (its conversations: '
            f'{", ".join(inputs["names"][:4])}); lower the learning rate, or go on from a '
            'checkpoint with another seed'
        )


def _kind(name: str) -> str:
    if any(part in name for part in ENCODERS.values()):
        return 'encoders'
    return 'adapters' if any(part in name for part in ADAPTERS) else ''
