"""From a deployment's plan to what its containers are to be; pure."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cloister.deployment.plan import Plan, programs
from cloister.endpoint import TcpAddress
from cloister.engines import ENGINES
from cloister.images import catalogue
from cloister.isolation.part import Health, Image, Mount, Part
from cloister.layout import Layout
from cloister.runtimes import EXPORTER, GATEWAY, Program, gateway_stop_s, socket_folder
from cloister.runtimes.docker import container_name, internal_network, own_network

# Gives the image of a service, whose name and tag are those, as Docker tells it.
Images = Callable[[str, str], Image]
_LISTEN, _ALL, _SPOOL = Path("/run/listen"), Path("/run/http"), Path("/run/spool")
_ETC, _MODEL, _CACHE = Path("/etc/cloister"), Path("/model"), "/tmp"  # noqa: S108  # in containers
_CLOSED = "noexec,nosuid,nodev"
_OFFLINE = (
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"),
    *("VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK"),
)
_LOOPBACK = {"VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
_NOBODY = ("127.0.0.1",)  # a resolver that nobody runs


def parts(
    planned: Plan, model: Path | None, images: Images, attached: Sequence[str]
) -> tuple[Part, ...]:
    """Return every container of a deployment, `model` being the folder that engines serve."""
    of_role = {program.name: program for program in programs(planned, Path("/model"))}
    return (
        _gateway(planned, images, attached),
        _exporter(planned, of_role[EXPORTER], images),
        *(_engine(planned, of_role[replica.name], images, model) for replica in planned.replicas),
    )


def _gateway(planned: Plan, images: Images, attached: Sequence[str]) -> Part:
    settings = planned.settings
    docker = settings.docker
    bodies_mib = docker.gateway_memory_mib * 2 // 3
    own = "uid=10001,gid=10001,mode=0700"
    return Part(
        service=GATEWAY,
        container=container_name(docker, GATEWAY),
        image=images(GATEWAY, catalogue()["gateway"].reference(docker)),
        command=(),
        mounts=(
            Mount(Layout(settings.state_dir).gateway, _ETC),
            *_shared(planned),
            _socket(planned, GATEWAY),
        ),
        tmpfs={"/run/cloister": f"size={bodies_mib}m,{own},{_CLOSED}"},
        memory_mib=docker.gateway_memory_mib,
        pids=128,
        stop_s=gateway_stop_s(settings),
        health=Health(10, 5, 10),
        networks=(own_network(docker), *_internal(planned), *attached),
        addresses=_addresses(planned, str(docker.subnet.network_address + 2)),
        dns=_NOBODY,
        sysctls={"net.ipv4.ip_forward": "0", "net.ipv4.ip_unprivileged_port_start": "80"},
        published={"8001/tcp": (str(settings.gateway.address), settings.gateway.port)},
    )


def _exporter(planned: Plan, program: Program, images: Images) -> Part:
    docker = planned.settings.docker
    return Part(
        service=EXPORTER,
        container=container_name(docker, EXPORTER),
        image=images(EXPORTER, catalogue()["exporter"].reference(docker)),
        command=program.flags,
        mounts=(*_shared(planned), _socket(planned, EXPORTER)),
        tmpfs={},
        memory_mib=256,
        pids=128,
        stop_s=10,
        health=Health(30, 10, 10),
        networks=_internal(planned),
        addresses=_addresses(planned, str(docker.subnet.network_address + 3)),
        dns=_NOBODY if _internal(planned) else (),
    )


def _engine(planned: Plan, program: Program, images: Images, model: Path | None) -> Part:
    settings, docker = planned.settings, planned.settings.docker
    engine = ENGINES[planned.engine]
    image = catalogue()[engine.image]
    serves, baked = engine.serves_model, engine.serves_model and docker.baked
    mounts = [] if _internal(planned) else [_socket(planned, program.name)]
    if serves and not baked and model is not None:
        mounts.append(Mount(model, _MODEL))
    if tessdata := settings.tesseract.tessdata_dir:
        mounts.append(Mount(tessdata, tessdata))
    environment: dict[str, str] = {**dict.fromkeys(_OFFLINE, "1"), **_LOOPBACK} if serves else {}
    if _internal(planned):
        environment["CLOISTER_HEALTH_AT"] = "127.0.0.1:8000"
    if program.gpu is not None:
        environment["NVIDIA_DRIVER_CAPABILITIES"] = "compute,utility"
    size, may = ("2g", "exec,nosuid,nodev") if serves else ("256m", _CLOSED)
    return Part(
        service=program.name,
        container=container_name(docker, program.name),
        image=images(program.name, image.baked(docker) if baked else image.reference(docker)),
        command=program.flags,
        mounts=tuple(mounts),
        tmpfs={_CACHE: f"size={size},mode=1777,{may}"},
        memory_mib=docker.engine_memory_mib,
        pids=512,
        stop_s=program.stop_wait_s,
        health=Health(30, 20, 900 if serves else 60),
        networks=_internal(planned),
        addresses=_addresses(planned, _host(planned, program.name)),
        dns=_NOBODY if _internal(planned) else (),
        environment=environment,
        shared_memory_mib=2048 if serves else 64,
        gpu=program.gpu,
    )


def _internal(planned: Plan) -> tuple[str, ...]:
    docker = planned.settings.docker
    return (internal_network(docker),) if docker.engine_network == "internal" else ()


def _addresses(planned: Plan, address: str) -> dict[str, str]:
    """Return the address of a container on the engines' network, where there is one."""
    return dict.fromkeys(_internal(planned), address)


def _host(planned: Plan, name: str) -> str:
    (inside,) = (one.listener.inside for one in planned.replicas if one.name == name)
    return inside.host if isinstance(inside, TcpAddress) else ""


def _socket(planned: Plan, name: str) -> Mount:
    folder = Layout(planned.settings.state_dir).sockets / socket_folder(name)
    return Mount(folder, _LISTEN, writable=True)


def _shared(planned: Plan) -> tuple[Mount, ...]:
    layout = Layout(planned.settings.state_dir)
    return (Mount(layout.sockets, _ALL), Mount(layout.spool, _SPOOL, writable=True))
