"""vLLM with a vision-language OCR model, on GPUs or, slowly, on the CPU."""

import math
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cloister.engines.launch import END_S, AnswerLimits, Launch, Patience, Replica
from cloister.engines.vllm.options import Options, joined
from cloister.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from cloister.config import Settings


# An event of one token with its 20 likeliest alternatives has 2 KB.
_TOKEN_BYTES = 4096
_SLOWEST_TOKEN_S = {"cuda": 0.1, "cpu": 1.0}


@dataclass(frozen=True)
class Vllm:
    """One of the two builds of vLLM."""

    device: Literal["cuda", "cpu"]
    family: str = "vllm-nanonets-ocr"
    serves_model: bool = True
    # Loading 7.5 GB from a slow disk, compiling and capturing graphs.
    ready_s: float = 1200.0

    @property
    def image(self) -> str:
        """The name of its image."""
        return f"vllm-{self.device}"

    @property
    def needs_gpu(self) -> bool:
        """Whether each replica is placed on a card."""
        return self.device == "cuda"

    def check(self, settings: "Settings") -> None:
        """Raise EngineError when this machine has no vLLM."""
        del settings
        if shutil.which("vllm") is None:
            raise EngineError(
                "`vllm` is not on PATH, and the process runtime starts it as a program",
                hint="pip install vllm, or `--set runtime=docker`, or `--set engine=tesseract`",
            )

    def launch(
        self, settings: "Settings", replica: Replica, cores: int, model: "Path | None"
    ) -> Launch:
        """Return the command of one replica, which becomes `vllm serve`; pure."""
        del cores
        tied = settings.vllm.tie_word_embeddings
        options = Options(
            model=str(model),
            device=self.device,
            listen=str(replica.listener.own),
            served_model_name=settings.model.name,
            max_num_seqs=settings.vllm.max_num_seqs,
            max_model_len=settings.vllm.max_model_len,
            gpu_memory_percent=replica.memory_percent or settings.vllm.gpu_memory_percent,
            max_pixels=settings.vllm.max_pixels,
            kv_cache_gib=settings.vllm.kv_cache_gib,
            max_queued_requests=settings.vllm.max_queued_requests,
            shutdown_timeout_s=settings.vllm.shutdown_timeout_s,
            load_format=settings.vllm.load_format,
            tie_word_embeddings={True: "true", False: "false", None: "as-declared"}[tied],
            eager=int(settings.vllm.eager),
            max_num_batched_tokens=settings.vllm.max_num_batched_tokens or 0,
            api_server_count=settings.vllm.api_server_count,
            quantization=settings.vllm.quantization,
            kv_cache_dtype=settings.vllm.kv_cache_dtype,
            mm_cache=settings.vllm.mm_cache,
            further=joined(settings.vllm.flags),
        )
        program = (sys.executable, "-m", "cloister.engines.vllm")
        return Launch(program, options.flags(), self.stop_wait_s(settings))

    def stop_wait_s(self, settings: "Settings") -> int:
        """Return a time that is longer than vLLM's own for its pages; pure."""
        return settings.vllm.shutdown_timeout_s + END_S

    def patience(self, settings: "Settings") -> Patience:
        """Return the time-outs: a token comes every few hundredths of a second on a card.

        Pictures are decoded by the process that answers, which may keep it busy for seconds. On
        the CPU one step can take as long as a whole page, and answers wait for it.
        """
        del settings
        return Patience(60.0, 60.0) if self.needs_gpu else Patience(300.0, 300.0)

    def answer_limits(self, settings: "Settings") -> AnswerLimits:
        """Return what all tokens that the model can write take; pure."""
        tokens = settings.vllm.max_model_len
        mib = math.ceil(tokens * _TOKEN_BYTES / (1 << 20))
        return AnswerLimits(mib, math.ceil(tokens * _SLOWEST_TOKEN_S[self.device]))

    def slots(self, settings: "Settings", cores: int) -> int:
        """Return the sequences of one replica; pure."""
        del cores
        return settings.vllm.max_num_seqs

    def room(self, settings: "Settings", cores: int) -> int:
        """Return the sequences and the waiting requests of one replica; pure."""
        return self.slots(settings, cores) + settings.vllm.max_queued_requests
