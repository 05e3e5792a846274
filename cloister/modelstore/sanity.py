"""Whether what config.json says of a model fits its weights, the engine and our settings.

Everything here is read from small files and headers; no weight is loaded.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloister import datafiles
from cloister.errors import ModelStoreError
from cloister.modelstore import contents

if TYPE_CHECKING:
    from cloister.config import Settings

# Qwen2.5-VL takes a square of 28 pixels as one token; the other models of profiles/ take no more.
_PIXELS_PER_TOKEN = 28 * 28
_HEAD = "lm_head.weight"
_CHARACTERS_PER_TOKEN = 3  # of a prompt; Nanonets' is 690 characters and 137 tokens
_TEMPLATE_TOKENS = 32


def require_architecture(folder: Path) -> str:
    """Return a model's architecture; raises ModelStoreError unless vLLM can serve it.

    It is served by vLLM's own code: code that comes with a model is never run.
    """
    named = _config(folder).get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise ModelStoreError("config.json names no architecture: no model of transformers")
    if named[0] not in architectures():
        raise ModelStoreError(
            f"vLLM 0.32 has no `{named[0]}` that reads images",
            hint="code that comes with a model is never run: choose another model",
        )
    return named[0]


@functools.cache
def architectures() -> frozenset[str]:
    """Return the architectures that vLLM 0.32 serves with images."""
    path = Path(__file__).with_name("architectures.txt")
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def check(folder: Path, settings: "Settings") -> None:
    """Raise ModelStoreError when a model cannot be served rightly with these settings."""
    require_architecture(folder)
    config = _config(folder)
    _require_room_for_a_page(settings, _context(config))
    _require_head(folder, config, settings)


def _require_room_for_a_page(settings: "Settings", context: int | None) -> None:
    vllm, ocr = settings.vllm, settings.ocr
    if context is not None and vllm.max_model_len > context:
        raise ModelStoreError(
            f"`vllm.max_model_len` is {vllm.max_model_len}, and the model takes {context} tokens",
            hint=f"set it to {context} or less",
        )
    image = vllm.max_pixels // _PIXELS_PER_TOKEN
    prompt = len(ocr.prompt) // _CHARACTERS_PER_TOKEN + _TEMPLATE_TOKENS
    needed = image + prompt + ocr.max_tokens
    if needed > vllm.max_model_len:
        raise ModelStoreError(
            f"a page may take {needed} tokens ({image} of image, {prompt} of prompt, "
            f"{ocr.max_tokens} of answer), and `vllm.max_model_len` is {vllm.max_model_len}",
            hint="raise it, or lower `vllm.max_pixels` or `ocr.max_tokens`",
        )


def _require_head(folder: Path, config: dict[str, Any], settings: "Settings") -> None:
    """Require that the output layer is where the engine will look for it.

    Without one of its own and untied, vLLM emits one token for ever, without an error.
    """
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        return
    own = any(name.endswith(_HEAD) for shard in shards for name in contents.tensors(shard))
    setting = settings.vllm.tie_word_embeddings
    declared = bool(config.get("tie_word_embeddings", False))
    told = declared if setting is None else setting
    where = "`vllm.tie_word_embeddings`" if setting is not None else "its config.json"
    if not own and not told:
        raise ModelStoreError(
            f"the model has no {_HEAD}, and {where} says that it is not tied to the embeddings",
            hint="set `vllm.tie_word_embeddings: true`, best in a file of profiles/",
        )
    if own and told and not declared:
        raise ModelStoreError(
            f"the model has an {_HEAD} of its own, which {where} would leave unused",
            hint="set `vllm.tie_word_embeddings: null`, best in a file of profiles/",
        )


def _context(config: dict[str, Any]) -> int | None:
    text = config.get("text_config")
    found = config.get("max_position_embeddings") or (
        text.get("max_position_embeddings") if isinstance(text, dict) else None
    )
    return found if isinstance(found, int) else None


def _config(folder: Path) -> dict[str, Any]:
    try:
        parsed = datafiles.load_json(folder / "config.json", datafiles.CONFIG_BYTES)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelStoreError(f"`{folder}` has no config.json that can be read") from error
    if not isinstance(parsed, dict):
        raise ModelStoreError(f"`{folder / 'config.json'}` is no mapping")
    return parsed
