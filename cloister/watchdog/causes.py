"""What a replica's last words say about why it ended: pure."""

import re

# The first that matches counts, so the particular ones come before the general ones.
_CAUSES = {
    r"CUDA out of memory|OutOfMemoryError|less than desired GPU memory utilization"
    r"|No available memory for the cache blocks|max seq len .* larger than": "the card has too "
    "little free memory: lower `vllm.gpu_memory_percent` or `vllm.max_model_len`, or stop what "
    "else is on it (nvidia-smi)",
    r"driver version is insufficient|no CUDA-capable device|CUDA driver|NVML|libcuda|Xid"
    r"|device-side assert|CUDA error|unhandled cuda error": "the NVIDIA driver or the card: look "
    "at `nvidia-smi` and `dmesg | grep -i xid`",
    r"MemoryError|Cannot allocate memory|Killed|OOMKilled|out of memory": "this machine has too "
    "little memory: lower `replicas`, or raise `docker.engine_memory_mib`",
    r"unrecognized arguments|invalid choice|error: argument|(?m:^usage: )": "a flag that this "
    "engine does not know: its version is another than the settings are for",
    r"No space left on device|Read-only file system|Permission denied": "it cannot write where it "
    "has to: look at the disk and at who owns its folders",
    r"(?i:address already in use)": "its port is taken: look for another program on it (ss -ltnp)",
    r"safetensors|config\.json|tokenizer|Failed to init API|checkpoint|weights|tessdata": "the "
    "model's files: invoke models.verify",
}


def likely(log: str) -> str | None:
    """Return what the end of a log points to, None when it says nothing that is known; pure."""
    for pattern, cause in _CAUSES.items():
        if re.search(pattern, log):
            return cause
    return None
