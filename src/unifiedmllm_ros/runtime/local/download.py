"""Downloads of published checkpoints: what is safe to read, with its licence shown first.

Into the hub's own cache, so that other programs share it; a download that stopped goes on where
it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unifiedmllm_ros.errors import ConfigError, MissingExtraError, ModelFileError
from unifiedmllm_ros.runtime.catalogue import CATALOGUE

PATTERNS = (
    '*.safetensors',
    '*.safetensors.index.json',
    '*.json',
    '*.jinja',
    '*.model',
    '*.txt',
    'LICENSE*',
)
"""Weights as safetensors, configurations, tokenizers. No pickles and no programs."""


@dataclass(frozen=True)
class Offer:
    """What would be downloaded.

    size: bytes in all, None where the hub does not say. gated: whether the publisher wants the
    licence accepted on the model's page first.
    """

    repository: str
    revision: str
    licence: str
    size: int | None
    files: int
    gated: bool


def look_up(repository: str, revision: str | None = None) -> Offer:
    """Ask the hub about a repository. Raises ConfigError, MissingExtraError."""
    from fnmatch import fnmatch

    hub = _hub()
    try:
        info = hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
    except Exception as error:
        raise _explained(repository, error) from error
    files = [
        one
        for one in info.siblings or ()
        if any(fnmatch(one.rfilename, pattern) for pattern in PATTERNS)
    ]
    if not any(one.rfilename.endswith('.safetensors') for one in files):
        raise ConfigError(
            f'{repository} has no safetensors: pickles, which can run programs, are not taken'
        )
    sizes = [one.size for one in files]
    size = sum(one for one in sizes if one) if all(one is not None for one in sizes) else None
    card = info.card_data.to_dict() if info.card_data is not None else {}
    return Offer(
        repository,
        info.sha or revision or 'main',
        _licence(repository, card),
        size,
        len(files),
        bool(info.gated),
    )


def download(offer: Offer) -> Path:
    """Fetch what is missing of an offer; returns its folder.

    Raises ConfigError (refused, unreachable), ModelFileError (no room on the disk).
    """
    hub = _hub()
    try:
        folder = hub.snapshot_download(
            offer.repository, revision=offer.revision, allow_patterns=list(PATTERNS)
        )
    except OSError as error:
        if error.errno == 28:
            raise ModelFileError(
                f'no room for {offer.repository}: set HF_HUB_CACHE to a larger disk, then run the '
                'same command; it goes on where it stopped'
            ) from error
        raise _explained(offer.repository, error) from error
    except Exception as error:
        raise _explained(offer.repository, error) from error
    # Without it a model is known by its revision alone, and not by its name.
    reference = Path(folder).parents[1] / 'refs' / 'main'
    if not reference.exists():
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(offer.revision, encoding='utf-8')
    return Path(folder)


def _hub():  # type: ignore[no-untyped-def]
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingExtraError.naming('huggingface_hub', 'vlm') from error
    return huggingface_hub


def _licence(repository: str, card: dict[str, object]) -> str:
    known = next((one.licence for one in CATALOGUE if one.repository == repository), '')
    stated = card.get('license_name') or card.get('license')
    return str(stated or known or 'not stated: look at its page')


def _explained(repository: str, error: Exception) -> ConfigError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        remedy = 'accept its licence on its page, then give your token (hf auth login)'
    elif isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        remedy = 'there is no such model, or it is private: check owner/name'
    elif isinstance(error, errors.HFValidationError):
        remedy = 'a model is named owner/name'
    else:
        text = ' '.join(str(error).split())[:200]
        remedy = f'{text}; run the same command again, it goes on where it stopped'
    return ConfigError(f'{repository} cannot be downloaded: {remedy}')
