"""What one vLLM server is started with: our settings in, `vllm serve` flags and variables out.

Standard library only: this runs inside vLLM's image too.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from cloister.endpoint import UnixSocket, parse
from cloister.engines.flags import Flags

_MAX_IMAGE_PIXELS = 100_000_000
MIDDLEWARE = "cloister.engines.json_bounds.JsonBoundsMiddleware"

# Nothing that serves ever calls the hub, and nobody is told that it runs.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
}
# Its processes speak to each other on loopback, whatever other interface there is.
_LOOPBACK = {
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
# One answer a request, no page larger than this many pixels, and no redirect ever followed.
_LIMITS = {
    "VLLM_MAX_N_SEQUENCES": "1",
    "VLLM_MAX_IMAGE_PIXELS": str(_MAX_IMAGE_PIXELS),
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    # nginx keeps its idle connections for 60 s; a shorter time here would race with it.
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
}


@dataclass(frozen=True)
class Options(Flags):
    """The settings of one server; each field is also a flag of that name.

    `listen` is an endpoint as `cloister.endpoint` reads it. Units are in the names; `model` is a
    folder, `device` is `cuda` or `cpu`, `tie_word_embeddings` is `true`, `false` or `as-declared`,
    0 batched tokens are vLLM's own choice, and `further` are flags as `joined` gives them.
    """

    model: str
    device: str
    listen: str = "127.0.0.1:8000"
    served_model_name: str = "nanonets/Nanonets-OCR2-3B"
    max_num_seqs: int = 5
    max_model_len: int = 18432
    gpu_memory_percent: int = 90
    max_pixels: int = 2_007_040
    kv_cache_gib: int = 4
    max_queued_requests: int = 128
    shutdown_timeout_s: int = 120
    load_format: str = "safetensors"
    tie_word_embeddings: str = "as-declared"
    eager: int = 0
    max_num_batched_tokens: int = 0
    api_server_count: int = 1
    quantization: str = "none"
    kv_cache_dtype: str = "auto"
    mm_cache: str = "lru"
    further: str = ""

    def serve(self) -> tuple[str, ...]:
        """Return the `vllm serve` command line; pure."""
        return (
            *("vllm", "serve", self.model),
            f"--served-model-name={self.served_model_name}",
            *self._listening(),
            f"--max-num-seqs={self.max_num_seqs}",
            f"--max-model-len={self.max_model_len}",
            # vLLM counts those that are being read among the queued.
            f"--max-num-queued-reqs={self.max_num_seqs + self.max_queued_requests}",
            f"--shutdown-timeout={self.shutdown_timeout_s}",
            f"--mm-processor-kwargs={json.dumps({'max_pixels': self.max_pixels})}",
            '--limit-mm-per-prompt={"image":1,"video":0}',
            # Weights are tensors, never a pickle, whatever else lies in the folder.
            f"--load-format={self.load_format}",
            *self._overrides(),
            # Sampling is what a request says, not what the checkpoint does: Nanonets' repetition
            # penalty spoils tables.
            "--generation-config=vllm",
            # `data:` URLs only: nobody may make the engine fetch, not even from its neighbours.
            "--allowed-media-domains=media.invalid",
            "--disable-fastapi-docs",
            # vLLM parses a body in its event loop, of any size and shape.
            f"--middleware={MIDDLEWARE}",
            # llguidance bounds what a client's grammar may cost. The default, xgrammar, compiles
            # `(((.{1,20}){1,20}){1,20}){1,20}` for minutes, and no page is answered meanwhile.
            '--structured-outputs-config={"backend":"guidance"}',
            "--enable-request-id-headers",
            "--disable-access-log-for-endpoints=/health,/metrics",
            *(self._gpu() if self.device == "cuda" else ()),
            *(("--enforce-eager",) if self.eager else ()),
            *self._speed(),
            *map(unquote, filter(None, self.further.split(","))),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that `vllm serve` needs beside the common ones; pure."""
        own = {"VLLM_CPU_KVCACHE_SPACE": str(self.kv_cache_gib)} if self.device == "cpu" else {}
        # At a client's first `logprobs` vLLM compiles a function, whatever --enforce-eager says,
        # and where there is no C++ compiler its core ends with an error.
        eager = {"TORCHDYNAMO_DISABLE": "1"} if self.device == "cpu" and self.eager else {}
        return {**_OFFLINE, **_LOOPBACK, **_LIMITS, **own, **eager}

    def _listening(self) -> tuple[str, ...]:
        endpoint = parse(self.listen)
        if isinstance(endpoint, UnixSocket):
            return (f"--uds={endpoint.path}",)
        return f"--host={endpoint.host}", f"--port={endpoint.port}"

    def _overrides(self) -> tuple[str, ...]:
        """Repair a config.json that is wrong about its weights, without editing it."""
        if self.tie_word_embeddings not in {"true", "false"}:
            return ()
        return (f'--hf-overrides={{"tie_word_embeddings":{self.tie_word_embeddings}}}',)

    def _speed(self) -> tuple[str, ...]:
        """Return flags only for what is not to be as vLLM itself would choose."""
        cache = {"off": "--mm-processor-cache-gb=0", "shm": "--mm-processor-cache-type=shm"}
        tokens, servers = self.max_num_batched_tokens, self.api_server_count
        said = (
            tokens and f"--max-num-batched-tokens={tokens}",
            servers > 1 and f"--api-server-count={servers}",
            self.quantization != "none" and f"--quantization={self.quantization}",
            self.kv_cache_dtype != "auto" and f"--kv-cache-dtype={self.kv_cache_dtype}",
            cache.get(self.mm_cache),
        )
        return tuple(flag for flag in said if flag)

    def _gpu(self) -> tuple[str, ...]:
        return (f"--gpu-memory-utilization={self.gpu_memory_percent / 100:.2f}",)


def joined(flags: Sequence[str]) -> str:
    """Return flags as one of plain characters: a supervisor's configuration holds no quotes."""
    return ",".join(quote(flag, safe="-_.=:/") for flag in flags)
