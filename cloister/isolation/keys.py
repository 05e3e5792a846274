"""The keys of Docker's API, versions 1.41 (engine 20.10) to 1.51 (28), by what they mean here."""

# Objects whose own keys are names: they are compared as values.
CONTAINER_WHOLE = frozenset(
    {
        *("Config.Labels", "Config.ExposedPorts", "Config.Volumes"),
        *("HostConfig.LogConfig.Config", "HostConfig.PortBindings", "HostConfig.StorageOpt"),
        *("HostConfig.Sysctls", "HostConfig.Tmpfs", "HostConfig.Annotations"),
        *("NetworkSettings.Ports",),
    }
)
# Lists in no particular order: Docker's maps, or those that Compose makes of its own maps. Of all
# others, such as those of a command's words or of hosts, the order means something.
UNORDERED = frozenset(
    {
        *("Mounts", "Aliases", "DNSNames", "Config.Env", "NetworkSettings.Networks"),
        *(
            f"HostConfig.{name}"
            for name in (
                *("Binds", "CapAdd", "CapDrop", "Devices", "GroupAdd", "MaskedPaths", "Mounts"),
                *("ReadonlyPaths", "Ulimits"),
            )
        ),
    }
)
# Identities, times and the engine's own places.
CONTAINER_FREE = frozenset(
    {
        *("Id", "Created", "Driver", "RestartCount", "ExecIDs"),
        *("ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"),
        *("State.Pid", "State.StartedAt", "State.FinishedAt", "State.Health."),
        # Of earlier runs of the same container.
        *("State.ExitCode", "State.OOMKilled"),
        *("GraphDriver.", "Storage.", "ImageManifestDescriptor."),
        # Whether its starter listened to what it prints.
        *("Config.AttachStdout", "Config.AttachStderr"),
        *("NetworkSettings.SandboxID", "NetworkSettings.SandboxKey"),
        # Of the first network, once more.
        *("NetworkSettings.EndpointID", "NetworkSettings.Gateway", "NetworkSettings.IPAddress"),
        *("NetworkSettings.IPPrefixLen", "NetworkSettings.MacAddress"),
        # Of a terminal that it does not have.
        "HostConfig.ConsoleSize",
    }
)
CONTAINER_OFF = frozenset(
    {
        *("State.Paused", "State.Restarting", "State.Dead", "State.Error"),
        *(
            f"HostConfig.{name}"
            for name in (
                *("Annotations", "AutoRemove", "BlkioDeviceReadBps", "BlkioDeviceReadIOps"),
                *("BlkioDeviceWriteBps", "BlkioDeviceWriteIOps", "BlkioWeight"),
                *("BlkioWeightDevice", "CapAdd", "Capabilities", "Cgroup", "CgroupParent"),
                *("ContainerIDFile", "CpuCount", "CpuPercent", "CpuPeriod", "CpuQuota"),
                *("CpuRealtimePeriod", "CpuRealtimeRuntime", "CpuShares", "CpusetCpus"),
                *("CpusetMems", "DeviceCgroupRules", "Devices", "DnsOptions", "DnsSearch"),
                *("ExtraHosts", "GroupAdd", "IOMaximumBandwidth", "IOMaximumIOps", "Isolation"),
                *("KernelMemory", "KernelMemoryTCP", "Links", "MemoryReservation"),
                *("MemorySwappiness", "Mounts", "NanoCpus", "OomKillDisable", "OomScoreAdj"),
                *("PidMode", "Privileged", "PublishAllPorts", "StorageOpt", "UTSMode"),
                *("Umask", "UsernsMode", "VolumeDriver", "VolumesFrom"),
                "RestartPolicy.MaximumRetryCount",
            )
        ),
        *(
            f"Config.{name}"
            for name in (
                *("ArgsEscaped", "AttachStdin", "Domainname", "MacAddress", "NetworkDisabled"),
                *("Hostname", "OnBuild", "OpenStdin", "Shell", "StdinOnce", "Tty", "Volumes"),
                "Healthcheck.StartInterval",
            )
        ),
        *(
            f"NetworkSettings.{name}"
            for name in (
                *("Bridge", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "HairpinMode"),
                *("IPv6Gateway", "LinkLocalIPv6Address", "LinkLocalIPv6PrefixLen"),
                *("SecondaryIPAddresses", "SecondaryIPv6Addresses"),
            )
        ),
    }
)
# Of a container's place on one network.
ENDPOINT_FREE = frozenset(
    {
        *("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress", "NetworkID"),
    }
)
ENDPOINT_OFF = frozenset(
    {
        *("DriverOpts", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "GwPriority", "IPAMConfig"),
        *("IPv6Gateway", "Links"),
    }
)
NETWORK_WHOLE = frozenset({"Containers", "Labels", "Options"})
NETWORK_FREE = frozenset({"Created", "Id"})
NETWORK_OFF = frozenset(
    {
        *("Attachable", "ConfigFrom.Network", "ConfigOnly", "EnableIPv6", "IPAM.Options"),
        *("Ingress", "Peers", "Services", "Status"),
    }
)
