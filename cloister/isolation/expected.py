"""What `docker inspect` has to say of each container and network of a deployment; pure.

Written from what the containers are to be, not from the Compose files: it is what those files are
checked against. Numbers are Docker's: bytes, nanoseconds.
"""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from cloister.isolation import keys
from cloister.isolation.differences import Expected, Rule, exactly, is_off, nothing, one_of
from cloister.isolation.labels import own_labels
from cloister.isolation.part import Bridge, Engine, Part

USER = "10001:10001"
_MIB = 1 << 20
_SECOND = 10**9
_SHORT = 12  # digits of an identity by which Docker calls a container
# Docker's default: what is hidden of /proc and /sys, and what is read-only there. Newer engines
# hide more, so these have to be among what is hidden.
_MASKED = frozenset(
    {
        *("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
        *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi"),
        "/sys/firmware",
    }
)
_READ_ONLY = frozenset({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})


def plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a container in the form in which it is compared; pure.

    Networks are names, labels are those that Compose did not write, the seccomp profile is what it
    says, variables are sorted, and there is no host name where it is the container's identity.
    """
    configuration, host = told["Config"], told["HostConfig"]
    named = configuration.get("Hostname") != told["Id"][:_SHORT]
    return {
        **told,
        "Config": {
            **configuration,
            "Env": sorted(configuration.get("Env") or ()),
            "Labels": own_labels(configuration.get("Labels")),
            "Hostname": configuration.get("Hostname") if named else None,
        },
        "HostConfig": {**host, "SecurityOpt": _security(host.get("SecurityOpt"))},
        "NetworkSettings": {
            **told["NetworkSettings"],
            "Networks": sorted(told["NetworkSettings"]["Networks"]),
        },
    }


def plain_network(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a network without the labels that Compose wrote; pure."""
    return {**told, "Labels": own_labels(told.get("Labels"))}


def container(part: Part, engine: Engine, seccomp: Mapping[str, Any]) -> Expected:
    """Return what has to be told of a container. `seccomp` is the profile that it is started with.

    The keys are those of the engine's API; docs/containers.md says which engines were tried.
    """
    rules = {
        **_running(part, engine),
        **_confined(engine, seccomp),
        **_limited(part, engine),
        **_placed(part),
        **_configured(part),
        **_connected(part),
    }
    return Expected(rules, keys.CONTAINER_WHOLE, keys.CONTAINER_OFF, keys.CONTAINER_FREE)


def endpoint(part: Part, identity: str, network: str, further: AbstractSet[str]) -> Expected:
    """Return what has to be told of a container's place on one of its networks.

    Whoever is there finds it by its own names, by the beginning of its identity, and by `further`.
    """
    names = {part.service, part.container, identity[:_SHORT], *further}
    address = part.addresses.get(network)
    only = (lambda told: set(told or ()) <= names), f"none but {', '.join(sorted(names))}"
    rules: dict[str, tuple[Rule, str]] = {
        "Aliases": only,
        "DNSNames": only,
        "IPAMConfig.IPv4Address": exactly(address) if address else nothing(),
    }
    return Expected(rules, off=keys.ENDPOINT_OFF, free=keys.ENDPOINT_FREE)


def network(bridge: Bridge) -> Expected:
    """Return what has to be told of a network."""
    driver = "com.docker.network.bridge."
    only = "inhibit_ipv4" if bridge.internal else "enable_ip_masquerade"
    options = {f"{driver}{only}": "true" if bridge.internal else "false"}
    rules: dict[str, tuple[Rule, str]] = {
        "Name": exactly(bridge.name),
        "Driver": exactly("bridge"),
        "Scope": exactly("local"),
        "Internal": exactly(bridge.internal),
        "EnableIPv4": one_of(None, True),  # noqa: FBT003  # older engines have no such key
        "IPAM.Driver": exactly("default"),
        "IPAM.Config": (
            lambda told: _without_off(told) == [{"Subnet": bridge.subnet}],
            f"the subnet {bridge.subnet} and nothing else",
        ),
        "Labels": nothing(),
        "Options": exactly(options),
        "Containers": (
            lambda told: {one["Name"] for one in (told or {}).values()} <= set(bridge.members),
            ", ".join(bridge.members),
        ),
    }
    return Expected(rules, keys.NETWORK_WHOLE, keys.NETWORK_OFF, keys.NETWORK_FREE)


def _running(part: Part, engine: Engine) -> dict[str, tuple[Rule, str]]:
    entry = part.image.configuration.get("Entrypoint") or []
    words = [*entry, *_command(part)]
    runtimes = [name for name in ("runc", "io.containerd.runc.v2") if name in engine.runtimes]
    return {
        "Name": exactly(f"/{part.container}"),
        "Image": exactly(part.image.identity),
        "Path": exactly(words[0]),
        "Args": exactly(words[1:]),
        "Platform": one_of("linux", "", None),
        "State.Status": exactly("running"),
        "State.Running": exactly(True),  # noqa: FBT003  # the value itself
        "HostConfig.Runtime": one_of(*runtimes, *(["nvidia"] if part.gpu is not None else [])),
        "HostConfig.Init": exactly(True),  # noqa: FBT003
        "HostConfig.RestartPolicy.Name": exactly(part.restart),
        "HostConfig.LogConfig.Type": exactly("json-file"),
        "HostConfig.LogConfig.Config": exactly({"max-file": "3", "max-size": "10m"}),
    }


def _confined(engine: Engine, seccomp: Mapping[str, Any]) -> dict[str, tuple[Rule, str]]:
    label = (
        (lambda told: str(told or "").startswith("system_u:"), "the label of a container")
        if engine.has("selinux")
        else nothing()
    )
    return {
        "AppArmorProfile": exactly("docker-default") if engine.has("apparmor") else nothing(),
        "ProcessLabel": label,
        "MountLabel": label,
        "HostConfig.CapDrop": exactly(["ALL"]),
        "HostConfig.SecurityOpt": (
            lambda told: told == ["no-new-privileges", seccomp],
            "no-new-privileges, and the profile compose/seccomp.json",
        ),
        "HostConfig.ReadonlyRootfs": exactly(True),  # noqa: FBT003
        "HostConfig.CgroupnsMode": exactly("private"),
        "HostConfig.IpcMode": exactly("private"),
        "HostConfig.MaskedPaths": (
            lambda told: set(told or ()) >= _MASKED,
            "Docker's own list, at the least",
        ),
        "HostConfig.ReadonlyPaths": (
            lambda told: set(told or ()) >= _READ_ONLY,
            "Docker's own list, at the least",
        ),
    }


def _limited(part: Part, engine: Engine) -> dict[str, tuple[Rule, str]]:
    memory = part.memory_mib * _MIB
    limits = {("core", 0, 0), ("nofile", 16384, 16384)}
    return {
        "HostConfig.Memory": exactly(memory),
        "HostConfig.MemorySwap": exactly(2 * memory if engine.limits_swap else -1),
        "HostConfig.PidsLimit": exactly(part.pids),
        "HostConfig.ShmSize": exactly(part.shared_memory_mib * _MIB),
        "HostConfig.Ulimits": (
            lambda told: {(u["Name"], u["Soft"], u["Hard"]) for u in told or ()} == limits,
            "no core dumps, 16384 files",
        ),
    }


def _placed(part: Part) -> dict[str, tuple[Rule, str]]:
    mounts = {(str(m.source), str(m.target), m.writable) for m in part.mounts}
    return {
        "HostConfig.Binds": (lambda told: set(map(_bind, told or ())) == mounts, _mounts(part)),
        "HostConfig.Tmpfs": exactly(dict(part.tmpfs)) if part.tmpfs else nothing(),
        "Mounts": (lambda told: set(map(_mount, told or ())) == mounts, _mounts(part)),
        "HostConfig.DeviceRequests": nothing()
        if part.gpu is None
        else ((lambda told: _without_off(told) == [_device(part)]), f"GPU {part.gpu}"),
    }


def _configured(part: Part) -> dict[str, tuple[Rule, str]]:
    image = part.image.configuration
    variables = dict(text.split("=", 1) for text in image.get("Env") or ())
    variables |= part.environment
    labels = dict(image.get("Labels") or {})
    check = image.get("Healthcheck") or {}
    return {
        "Config.Image": exactly(part.image.name),
        "Config.User": exactly(USER),
        "Config.Env": exactly(sorted(f"{name}={value}" for name, value in variables.items())),
        "Config.Cmd": exactly(list(_command(part)) or None),
        "Config.Entrypoint": exactly(image.get("Entrypoint")),
        "Config.WorkingDir": exactly(image.get("WorkingDir") or ""),
        "Config.Labels": exactly(labels),
        "Config.Healthcheck.Test": exactly(check.get("Test")),
        "Config.Healthcheck.Interval": exactly(part.health.interval_s * _SECOND),
        "Config.Healthcheck.Timeout": exactly(part.health.timeout_s * _SECOND),
        "Config.Healthcheck.StartPeriod": exactly(part.health.start_s * _SECOND),
        "Config.Healthcheck.Retries": exactly(part.health.retries),
        "Config.StopSignal": exactly(image.get("StopSignal")),
        "Config.StopTimeout": exactly(part.stop_s),
        "Config.ExposedPorts": exactly(image.get("ExposedPorts") or None),
    }


def _connected(part: Part) -> dict[str, tuple[Rule, str]]:
    bindings = {
        port: [{"HostIp": address, "HostPort": str(number)}]
        for port, (address, number) in part.published.items()
    }
    names = list(part.networks or ("none",))
    return {
        "HostConfig.NetworkMode": one_of(*names),
        "HostConfig.PortBindings": exactly(bindings) if bindings else nothing(),
        "HostConfig.Dns": exactly(list(part.dns)) if part.dns else nothing(),
        "HostConfig.Sysctls": exactly(dict(part.sysctls)) if part.sysctls else nothing(),
        "NetworkSettings.Ports": (
            lambda told: {k: v for k, v in (told or {}).items() if v} == bindings,
            json.dumps(bindings) if bindings else "no port",
        ),
        "NetworkSettings.Networks": exactly(sorted(names)),
    }


def _command(part: Part) -> tuple[str, ...]:
    return part.command or tuple(part.image.configuration.get("Cmd") or ())


def _security(told: Any) -> list[Any]:
    """Return the options of a container, the seccomp profile as what it says."""
    found: list[Any] = []
    for option in sorted(told or ()):
        name, _, value = option.replace("=", ":", 1).partition(":")
        if name == "seccomp" and value.startswith("{"):
            found.append(json.loads(value))
        elif name == "no-new-privileges" and value in {"", "true"}:
            found.append(name)
        else:
            found.append(option)
    return found


def _bind(text: str) -> tuple[str, str, bool]:
    source, target, *modes = text.split(":")
    words = set(modes[0].split(",")) if modes else set()
    # Relabelling for SELinux opens nothing; any other word is told by not being equal.
    plain = words <= {"rw", "ro", "z", "rprivate"}
    return source, target if plain else text, "ro" not in words


def _mount(told: Mapping[str, Any]) -> tuple[str, str, bool]:
    plain = told.get("Type") == "bind" and told.get("Propagation") in {"rprivate", ""}
    target = told.get("Destination") if plain else json.dumps(dict(told), sort_keys=True)
    return str(told.get("Source")), str(target), bool(told.get("RW"))


def _mounts(part: Part) -> str:
    shown = (f"{m.source}:{m.target}:{'rw' if m.writable else 'ro'}" for m in part.mounts)
    return ", ".join(shown) or "nothing"


def _device(part: Part) -> dict[str, Any]:
    return {"Driver": "nvidia", "DeviceIDs": [str(part.gpu)], "Capabilities": [["gpu"]]}


def _without_off(told: Any) -> list[dict[str, Any]]:
    """Return objects without what is off: a count of 0, options that are empty."""
    return [{key: value for key, value in one.items() if not is_off(value)} for one in told or ()]
