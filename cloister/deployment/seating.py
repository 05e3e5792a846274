"""On which cards the replicas of a deployment go, as this machine's cards are now."""

from cloister import gpus, modelstore, placement
from cloister.config import Settings
from cloister.engines import ENGINES
from cloister.engines.vllm import memory
from cloister.placement import Seat


def seats(settings: Settings) -> tuple[Seat, ...]:
    """Return the replicas' seats, none for an engine that needs no card.

    Raises DeploymentError with the arithmetic when they do not fit.
    """
    if not ENGINES[settings.engine].needs_gpu:
        return ()
    folder = modelstore.folder(settings)
    need = memory.need(folder, settings.vllm.max_model_len) if folder else None
    return placement.place(
        settings.replicas,
        gpus.cards(),
        gpus=settings.engines.gpus,
        per_gpu=settings.engines.per_gpu,
        memory_percent=settings.vllm.gpu_memory_percent,
        need=need,
    )
