"""A service of the tree, which ``schema`` has made uniform, becomes a ``Service``."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace

from lab.compose import dotenv
from lab.compose.assemble import read_text
from lab.compose.model import (
    DEFAULT_NETWORK,
    SECRETS,
    Build,
    Deploy,
    EnvFile,
    FileReference,
    Healthcheck,
    Hook,
    Logging,
    MountType,
    Port,
    ResourceLimits,
    RestartPolicy,
    Service,
    ServiceNetwork,
    ServiceVolume,
    Ulimit,
    WatchAction,
    WatchRule,
)
from lab.compose.references import links, references
from lab.compose.tree import Node, below

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|git@|github\.com/|service:")
_NO_TEST = ("NONE",)
_RESTARTS = {"none": "no", "any": "always", "on-failure": "on-failure", "unless-stopped": "unless-stopped"}


def service(name: str, node: Node, environment: Mapping[str, str], *, reads_files: bool) -> Service:
    """Return a service, with what its files of variables and labels say if it ``reads_files``.

    Raises:
        SpecError: a file that it names cannot be read, or a value is wrong.
    """
    where = below("services", name)
    files = tuple(_env_file(each) for each in node.at("env_file").items())
    found = Service(
        name=name,
        image=node.text("image"),
        build=_build(node.get("build"), environment),
        command=_words(node, "command"),
        entrypoint=_words(node, "entrypoint"),
        environment=_environment(node, where, environment, reads_files=reads_files),
        env_files=files,
        profiles=node.texts("profiles"),
        depends_on={other: reference.dependency for other, reference in references(node).items()},
        links=links(node),
        external_links=node.texts("external_links"),
        container_name=node.text("container_name"),
        scale=node.whole("scale"),
        deploy=_deploy(node.at("deploy")),
        restart=node.text("restart"),
        attach=node.truth("attach", default=True),
        pull_policy=node.text("pull_policy"),
        platform=node.text("platform"),
        runtime=node.text("runtime"),
        user=node.text("user"),
        group_add=node.texts("group_add"),
        working_dir=node.text("working_dir"),
        tty=node.truth("tty"),
        stdin_open=node.truth("stdin_open"),
        init=node.truth("init") if node.get("init") else None,
        stop_signal=node.text("stop_signal"),
        stop_grace_period_ns=node.whole("stop_grace_period"),
        healthcheck=_healthcheck(node.get("healthcheck")),
        labels={**(_labels_of_files(node) if reads_files else {}), **node.pairs("labels")},
        annotations=node.pairs("annotations"),
        logging=_logging(node.get("logging")),
        post_start=_hooks(node, "post_start", environment),
        pre_stop=_hooks(node, "pre_stop", environment),
        watch=tuple(_watch_rule(each) for each in node.at("develop").at("watch").items()),
    )
    for add in (_with_network, _with_files, _with_limits, _with_rights):
        found = add(found, node)
    return _with_deploy(found)


def _with_network(found: Service, node: Node) -> Service:
    return replace(
        found,
        ports=tuple(_port(each) for each in node.at("ports").items()),
        expose=node.texts("expose"),
        networks=_networks(node),
        network_mode=node.text("network_mode"),
        mac_address=node.text("mac_address"),
        hostname=node.text("hostname"),
        domainname=node.text("domainname"),
        extra_hosts=_extra_hosts(node),
        dns=node.texts("dns"),
        dns_search=node.texts("dns_search"),
        dns_opt=node.texts("dns_opt"),
    )


def _with_files(found: Service, node: Node) -> Service:
    return replace(
        found,
        volumes=tuple(_volume(each) for each in node.at("volumes").items()),
        volumes_from=node.texts("volumes_from"),
        tmpfs=node.texts("tmpfs"),
        configs=tuple(_file_reference(each, "/") for each in node.at("configs").items()),
        secrets=tuple(_file_reference(each, SECRETS) for each in node.at("secrets").items()),
        devices=tuple(_device(each) for each in node.at("devices").items()),
        device_cgroup_rules=node.texts("device_cgroup_rules"),
    )


def _with_limits(found: Service, node: Node) -> Service:
    return replace(
        found,
        cpus=node.number("cpus"),
        cpuset=node.text("cpuset"),
        cpu_shares=node.whole("cpu_shares"),
        cpu_quota_us=node.whole("cpu_quota"),
        cpu_period_us=node.whole("cpu_period"),
        mem_limit_bytes=node.whole("mem_limit"),
        mem_reservation_bytes=node.whole("mem_reservation"),
        memswap_limit_bytes=node.whole("memswap_limit"),
        mem_swappiness=node.whole("mem_swappiness"),
        oom_kill_disable=node.truth("oom_kill_disable"),
        oom_score_adj=node.whole("oom_score_adj"),
        pids_limit=node.whole("pids_limit"),
        shm_bytes=node.whole("shm_size"),
        blkio_config=_blkio(node.at("blkio_config")),
        ulimits=_ulimits(node),
        sysctls=node.pairs("sysctls"),
    )


def _with_rights(found: Service, node: Node) -> Service:
    return replace(
        found,
        privileged=node.truth("privileged"),
        read_only=node.truth("read_only"),
        cap_add=node.texts("cap_add"),
        cap_drop=node.texts("cap_drop"),
        security_opt=node.texts("security_opt"),
        ipc=node.text("ipc"),
        pid=node.text("pid"),
        uts=node.text("uts"),
        userns_mode=node.text("userns_mode"),
        cgroup=node.text("cgroup"),
        cgroup_parent=node.text("cgroup_parent"),
    )


def _with_deploy(found: Service) -> Service:
    """Have what the deploy section says where the keys of old say nothing."""
    limits, reservations = found.deploy.limits, found.deploy.reservations
    return replace(
        found,
        cpus=limits.cpus if found.cpus is None else found.cpus,
        mem_limit_bytes=limits.memory_bytes if found.mem_limit_bytes is None else found.mem_limit_bytes,
        mem_reservation_bytes=(
            reservations.memory_bytes if found.mem_reservation_bytes is None else found.mem_reservation_bytes
        ),
        pids_limit=limits.pids if found.pids_limit is None else found.pids_limit,
        restart=found.restart or _restart(found.deploy.restart_policy),
    )


def _restart(policy: RestartPolicy | None) -> str:
    if policy is None:
        return ""
    times = f":{policy.max_attempts}" if policy.condition == "on-failure" and policy.max_attempts else ""
    return _RESTARTS[policy.condition] + times


def _words(node: Node, key: str) -> tuple[str, ...] | None:
    found = node.get(key)
    return None if found is None or found.value is None else node.texts(key)


def _environment(node: Node, where: str, environment: Mapping[str, str], *, reads_files: bool) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for index, each in enumerate(node.at("env_file").items() if reads_files else ()):
        found.update(_variables_of(each, below(below(where, "env_file"), index), found, environment))
    return {**found, **_variables(node, "environment", environment)}


def _variables(node: Node, key: str, environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return variables; one that is only named has its value in ``environment``, None where it has none there."""
    entries = node.at(key).entries()
    return {name: environment.get(name) if each.value is None else each.text() for name, each in entries.items()}


def _variables_of(
    file: Node, where: str, before: Mapping[str, str | None], environment: Mapping[str, str]
) -> Mapping[str, str | None]:
    path = file.path("path")
    if not os.path.exists(path):
        if file.truth("required", default=True):
            raise file.wrong(where, f"env file {path} not found", hint="'required: false' lets it be missing")
        return {}
    outside = {**{name: value for name, value in before.items() if value is not None}, **environment}
    if file.text("format") == "raw":
        return dotenv.parse_raw(read_text(path), outside=outside)
    return dotenv.parse(read_text(path), file=path, outside=outside)


def _env_file(node: Node) -> EnvFile:
    return EnvFile(path=node.path("path"), required=node.truth("required", default=True), format=node.text("format"))


def _labels_of_files(node: Node) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in node.at("label_file").items():
        path = each.place.join(each.text())
        found.update(
            {name: value or "" for name, value in dotenv.parse(read_text(path), file=path, outside={}).items()}
        )
    return found


def _build(node: Node | None, environment: Mapping[str, str]) -> Build | None:
    if node is None:
        return None
    contexts = node.at("additional_contexts").entries()
    return Build(
        context=_context(node.get("context")) or node.place.join("."),
        dockerfile=node.text("dockerfile") or "Dockerfile",
        dockerfile_inline=node.text("dockerfile_inline"),
        args=_variables(node, "args", environment),
        target=node.text("target"),
        labels=node.pairs("labels"),
        cache_from=node.texts("cache_from"),
        cache_to=node.texts("cache_to"),
        network=node.text("network"),
        no_cache=node.truth("no_cache"),
        pull=node.truth("pull"),
        shm_bytes=node.whole("shm_size"),
        extra_hosts=_extra_hosts(node),
        secrets=tuple(_file_reference(each, "") for each in node.at("secrets").items()),
        additional_contexts={name: _context(each) for name, each in contexts.items()},
        tags=node.texts("tags"),
        platforms=node.texts("platforms"),
        ulimits=_ulimits(node),
        privileged=node.truth("privileged"),
    )


def _context(node: Node | None) -> str:
    if node is None:
        return ""
    return node.text() if _REMOTE.match(node.text()) else node.place.join(node.text())


def _deploy(node: Node) -> Deploy:
    resources, policy = node.at("resources"), node.get("restart_policy")
    return Deploy(
        mode=node.text("mode"),
        replicas=node.whole("replicas"),
        labels=node.pairs("labels"),
        limits=_limits(resources.at("limits")),
        reservations=_limits(resources.at("reservations")),
        restart_policy=None if policy is None else _restart_policy(policy),
    )


def _limits(node: Node) -> ResourceLimits:
    return ResourceLimits(cpus=node.number("cpus"), memory_bytes=node.whole("memory"), pids=node.whole("pids"))


def _restart_policy(node: Node) -> RestartPolicy:
    return RestartPolicy(
        condition=node.text("condition") or "any",
        delay_ns=node.whole("delay"),
        max_attempts=node.whole("max_attempts"),
        window_ns=node.whole("window"),
    )


def _healthcheck(node: Node | None) -> Healthcheck | None:
    if node is None:
        return None
    disable = node.truth("disable") or node.texts("test")[:1] == _NO_TEST
    return Healthcheck(
        test=_NO_TEST if disable else node.texts("test"),
        interval_ns=node.whole("interval"),
        timeout_ns=node.whole("timeout"),
        retries=node.whole("retries"),
        start_period_ns=node.whole("start_period"),
        start_interval_ns=node.whole("start_interval"),
        disable=disable,
    )


def _logging(node: Node | None) -> Logging | None:
    return None if node is None else Logging(driver=node.text("driver"), options=node.pairs("options"))


def _hooks(node: Node, key: str, environment: Mapping[str, str]) -> tuple[Hook, ...]:
    return tuple(
        Hook(
            command=each.texts("command"),
            user=each.text("user"),
            privileged=each.truth("privileged"),
            working_dir=each.text("working_dir"),
            environment=_variables(each, "environment", environment),
        )
        for each in node.at(key).items()
    )


def _watch_rule(node: Node) -> WatchRule:
    return WatchRule(
        action=WatchAction(node.text("action")),
        path=node.path("path"),
        target=node.text("target"),
        ignore=node.texts("ignore"),
        include=node.texts("include"),
        initial_sync=node.truth("initial_sync"),
        command=node.at("exec").texts("command"),
    )


def _port(node: Node) -> Port:
    first, _, last = node.text("published").partition("-")
    return Port(
        target=node.whole("target") or 0,
        published_first=int(first or 0),
        published_last=int(last or first or 0),
        host_ip=node.text("host_ip"),
        protocol=node.text("protocol") or "tcp",
        mode=node.text("mode") or "ingress",
        name=node.text("name"),
        app_protocol=node.text("app_protocol"),
    )


def _networks(node: Node) -> dict[str, ServiceNetwork]:
    if node.text("network_mode"):
        return {}
    asked = node.at("networks").entries()
    return {name: _network(each) for name, each in asked.items()} or {DEFAULT_NETWORK: ServiceNetwork()}


def _network(node: Node) -> ServiceNetwork:
    return ServiceNetwork(
        aliases=node.texts("aliases"),
        ipv4_address=node.text("ipv4_address"),
        ipv6_address=node.text("ipv6_address"),
        link_local_ips=node.texts("link_local_ips"),
        mac_address=node.text("mac_address"),
        interface_name=node.text("interface_name"),
        driver_opts=node.pairs("driver_opts"),
        priority=node.whole("priority") or 0,
        gw_priority=node.whole("gw_priority") or 0,
    )


def _extra_hosts(node: Node) -> tuple[str, ...]:
    entries = node.at("extra_hosts").entries()
    return tuple(f"{name}:{address.text()}" for name, each in entries.items() for address in each.items())


def _volume(node: Node) -> ServiceVolume:
    kind = MountType(node.text("type"))
    bind, volume, tmpfs = node.at("bind"), node.at("volume"), node.at("tmpfs")
    return ServiceVolume(
        type=kind,
        source=node.path("source") if kind == MountType.BIND else node.text("source"),
        target=posixpath.normpath(node.text("target")),
        read_only=node.truth("read_only"),
        consistency=node.text("consistency"),
        propagation=bind.text("propagation"),
        create_host_path=kind == MountType.BIND and bind.truth("create_host_path", default=True),
        recursive=bind.text("recursive"),
        selinux=bind.text("selinux"),
        nocopy=volume.truth("nocopy"),
        subpath=volume.text("subpath") or node.at("image").text("subpath"),
        labels=volume.pairs("labels"),
        tmpfs_size_bytes=tmpfs.whole("size"),
        tmpfs_mode=tmpfs.whole("mode"),
    )


def _file_reference(node: Node, directory: str) -> FileReference:
    return FileReference(
        source=node.text("source"),
        target=posixpath.join(directory, node.text("target") or node.text("source")),
        uid=node.text("uid"),
        gid=node.text("gid"),
        mode=node.whole("mode"),
    )


def _device(node: Node) -> str:
    source = node.text("source")
    return ":".join((source, node.text("target") or source, node.text("permissions") or "rwm"))


def _ulimits(node: Node) -> dict[str, Ulimit]:
    return {
        name: Ulimit(soft=each.whole("soft") or 0, hard=each.whole("hard") or 0)
        for name, each in node.at("ulimits").entries().items()
    }


_BLKIO_LISTS = (
    ("weight_device", "blkio-weight-device", "weight"),
    ("device_read_bps", "device-read-bps", "rate"),
    ("device_write_bps", "device-write-bps", "rate"),
    ("device_read_iops", "device-read-iops", "rate"),
    ("device_write_iops", "device-write-iops", "rate"),
)


def _blkio(node: Node) -> tuple[str, ...]:
    weight = (f"blkio-weight={node.text('weight')}",) if node.get("weight") else ()
    devices = (
        f"{flag}={each.text('path')}:{each.text(value)}"
        for key, flag, value in _BLKIO_LISTS
        for each in node.at(key).items()
    )
    return (*weight, *devices)
