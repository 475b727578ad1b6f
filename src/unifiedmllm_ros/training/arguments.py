"""What the Trainer of `transformers` is told of a stage."""

from __future__ import annotations

import torch
from transformers import TrainingArguments

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.training.settings import StageSettings


def arguments(settings: StageSettings, processes: int, logged: bool) -> TrainingArguments:
    """What the Trainer is told.

    Raises ConfigError where the step's samples cannot be spread over the processes.
    """
    batch, optimiser, precision = settings.batch, settings.optimiser, settings.precision
    share, rest = divmod(batch.size, processes)
    each = min(batch.per_device, share)
    if rest or not share or share % each:
        raise ConfigError(
            f'batch.size {batch.size} cannot be spread over {processes} processes of '
            f'{batch.per_device} at a time: choose a multiple of both'
        )
    names = {'adamw': 'adamw_torch', 'adafactor': 'adafactor', 'sgd': 'sgd'}
    schedules = {
        'constant': 'constant_with_warmup',
        'linear': 'linear',
        'cosine': 'cosine',
        'decay_at_end': 'warmup_stable_decay',
    }
    warmup = round(optimiser.warmup * settings.steps)
    falls = max(1, round(optimiser.decay * settings.steps))
    plateau = {'num_decay_steps': falls} if optimiser.schedule == 'decay_at_end' else {}
    evaluation = settings.evaluation
    return TrainingArguments(
        output_dir=str(settings.out),
        max_steps=settings.steps,
        per_device_train_batch_size=each,
        per_device_eval_batch_size=each,
        gradient_accumulation_steps=share // each,
        learning_rate=optimiser.learning_rate,
        lr_scheduler_type=schedules[optimiser.schedule],
        lr_scheduler_kwargs=plateau,
        warmup_steps=warmup,
        optim=names[optimiser.name],
        adam_beta1=optimiser.betas[0],
        adam_beta2=optimiser.betas[1],
        weight_decay=optimiser.weight_decay,
        max_grad_norm=optimiser.clip,
        bf16=precision == 'bf16',
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={'use_reentrant': False},
        dataloader_num_workers=batch.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_persistent_workers=batch.workers > 0,
        remove_unused_columns=False,
        label_names=['labels'],
        eval_strategy='no' if evaluation is None else 'steps',
        eval_steps=None if evaluation is None else evaluation.every,
        save_strategy='steps',
        save_steps=settings.saving.every,
        save_total_limit=settings.saving.keep,
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        report_to=['tensorboard'] if logged else [],
        seed=settings.seed,
        use_cpu=not torch.cuda.is_available(),
        ddp_backend='gloo' if processes > 1 and not torch.cuda.is_available() else None,
        ddp_find_unused_parameters=False,
    )
