"""The schema's section of vLLM, whichever build of it."""

from typing import Literal

from pydantic import Field

from cloister.config.fields import VllmFlags
from cloister.config.section import Section


class VllmSettings(Section):
    """The engines vllm-cuda and vllm-cpu."""

    max_num_seqs: int = Field(
        default=5, ge=1, le=4096, description="Pages that one replica reads at once"
    )
    max_model_len: int = Field(
        default=18432,
        ge=1024,
        le=131072,
        description="Longest prompt, image included, and answer together, in tokens",
    )
    gpu_memory_percent: int = Field(
        default=90,
        ge=5,
        le=98,
        description="Share of a GPU's memory that the replicas on it may take together, in percent",
    )
    max_pixels: int = Field(
        default=2_007_040,
        ge=100_352,
        le=12_845_056,
        description="Pixels beyond which a page is scaled down; 28 x 28 of them are one token",
    )
    kv_cache_gib: int = Field(
        default=4, ge=1, le=1024, description="Memory for the KV cache of vllm-cpu, in GiB"
    )
    max_queued_requests: int = Field(
        default=128,
        ge=1,
        le=65535,
        description="Requests of each replica that may wait for a sequence; beyond it 503",
    )
    shutdown_timeout_s: int = Field(
        default=120,
        ge=0,
        le=3600,
        description="Longest wait for the pages in flight when a replica stops, in seconds",
    )
    load_format: Literal["safetensors", "dummy"] = Field(
        default="safetensors",
        description="Where weights come from; dummy makes noise of the right shapes and needs "
        "`model.synthetic: true`",
    )
    tie_word_embeddings: bool | None = Field(
        default=None,
        description="Whether the output layer shares the input embeddings; null trusts the "
        "model's config.json",
    )
    eager: bool = Field(
        default=False,
        description="Start without compiling: sooner ready, slower after; where no C compiler is",
    )
    max_num_batched_tokens: int | None = Field(
        default=None,
        ge=512,
        le=1_048_576,
        description="Tokens of all pages that one step computes at most; null: as vLLM chooses",
    )
    api_server_count: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes of each replica that decode and scale pages, on cores of their own",
    )
    quantization: Literal["none", "fp8"] = Field(
        default="none",
        description="How the weights are kept on the card; fp8 computes twice as fast on cards "
        "that have it, and what it does to the text is yours to measure",
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field(
        default="auto",
        description="How the KV cache is kept; fp8 holds twice the pages, with the same caution",
    )
    mm_cache: Literal["lru", "shm", "off"] = Field(
        default="lru",
        description="Cache of scaled pages: helps only where the same page comes again; shm "
        "shares its memory with the engine's core",
    )
    flags: VllmFlags = Field(
        default=(),
        description="Further flags of `vllm serve`; only those that change nothing but its speed",
    )
