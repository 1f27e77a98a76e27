"""The arms "vm-tcg" and "vm-kvm": a guest with a kernel of its own, through libvirt and QEMU.

"qemu-tcg" is the same guest by QEMU's command line alone, "vm-tcg-clone" one that goes on where a template was left.

The image becomes the guest's root disk, unless a suite makes guests up otherwise. Limits are its processors and its
memory; QEMU itself runs in the target's cgroup without limits, so that what it costs on top is seen and not cut off.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import StrEnum

from lab.container.image.store import ImageStore
from lab.container.network import apply
from lab.errors import DomainError, LabError, TargetError, TargetTimeout, UnavailableError
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.backends import domain_options
from lab.target.backends.cgroup_footprint import cgroup_directories
from lab.target.backends.domain_disks import GuestDisks, lay_out_disks
from lab.target.backends.domain_home import GuestHome, homes, make_home, repair
from lab.target.backends.domain_link import GuestLink, connect
from lab.target.backends.failures import no_endpoint
from lab.target.protocol import Backend
from lab.target.spec import (
    Availability,
    Command,
    Endpoint,
    Execution,
    Footprint,
    MarkName,
    MarkSink,
    Options,
    TargetSpec,
)
from lab.units import NS_PER_S
from lab.vm import capabilities, shares
from lab.vm.connection import qemu_version
from lab.vm.console import check_socket_directory
from lab.vm.direct_qemu import (
    CloneGuest,
    DirectGuest,
    Template,
    TemplateGuest,
    ensure_template,
    for_clones,
    template_key,
)
from lab.vm.domain_spec import Accelerator, DomainSpec
from lab.vm.guest import Guest
from lab.vm.guest_agent import GuestCommand
from lab.vm.makeup import PLAIN, Makeup, NetworkKind, describe_root
from lab.vm.platform import STARTED_FILE, Platform, prepare
from lab.vm.shares import ShareServer

_ACCELERATORS = {
    "vm-tcg": Accelerator.TCG,
    "vm-kvm": Accelerator.KVM,
    "qemu-tcg": Accelerator.TCG,
    "vm-tcg-clone": Accelerator.TCG,
}


class Launcher(StrEnum):
    """Who starts QEMU, and from what."""

    LIBVIRT = "libvirt"
    DIRECT = "QEMU's command line"
    CLONE = "QEMU's command line, from a template of memory"


_LAUNCHERS = {"qemu-tcg": Launcher.DIRECT, "vm-tcg-clone": Launcher.CLONE}
_TERM_GRACE_NS = 3 * NS_PER_S
_CGROUP_GRACE_NS = 10 * NS_PER_S
_NOT_EXECUTED = 126
_NO_DIRECTORY = b"cannot change to directory "  # init's words
_PANIC_TIMEOUT_NS = 30 * NS_PER_S
_MEMORY_TIMEOUT_NS = 30 * NS_PER_S
_LIMITS = "processors and memory are the guest's, the VMM's own use comes on top; the number of tasks is not limited"
# What every program finds in its environment, as in the container arms, unless the image or the command says otherwise.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def open_backend(name: str, paths: Paths) -> Backend:
    """Return one of the guest arms."""
    return DomainBackend(name, _ACCELERATORS[name], paths)


def open_with(name: str, paths: Paths, options: Options) -> Backend:
    """Return the same with guests that are made up otherwise; see ``domain_options``."""
    return DomainBackend(name, _ACCELERATORS[name], paths, domain_options.makeup(options))


class DomainBackend:
    """Guests by one accelerator."""

    def __init__(self, name: str, accelerator: Accelerator, paths: Paths, makeup: Makeup = PLAIN) -> None:
        """Start nothing yet: libvirt is connected to when it is first needed."""
        self._name = name
        self._accelerator = accelerator
        self._paths = paths
        self._makeup = makeup
        self._launcher = _LAUNCHERS.get(name, Launcher.LIBVIRT)
        self._bridged = False

    @property
    def name(self) -> str:
        """What users type and reports print."""
        return self._name

    def check(self) -> Availability:
        """Return whether this host boots a stock Linux guest, tried once for each boot of the host."""
        try:
            answer = self._ask()
            facts = self._facts(prepare(self._paths)) if answer.works else self._first_facts()
        except (LabError, OSError) as error:
            hint = error.hint if isinstance(error, LabError) else ""
            return Availability(available=False, reason=str(error), hint=hint, facts=self._first_facts())
        return Availability(available=answer.works, reason=answer.reason, hint=answer.hint, facts=facts)

    def _ask(self) -> capabilities.Answer:
        if os.geteuid() != 0:
            return capabilities.Answer(works=False, reason="libvirt's embedded driver needs root", hint="use sudo")
        if self._accelerator is Accelerator.KVM:
            for question in (capabilities.kvm_opens, capabilities.kvm_runs_tiny_guest):
                answer = question()
                if not answer.works:
                    return answer
        missing = capabilities.can_be_made_up(self._paths, self._makeup)
        return capabilities.boots_linux(self._paths, self._accelerator) if missing.works else missing

    def _first_facts(self) -> tuple[tuple[str, str], ...]:
        """Return what is known of the accelerator whether it works or not."""
        if self._accelerator is Accelerator.TCG:
            return (("isolation", "vm"), ("accelerator", "tcg"), ("emulation", "software emulation, no hypervisor"))
        flavour = capabilities.kvm_flavour()
        nested = "yes" if capabilities.host_is_guest() else "no"
        return (("isolation", "vm"), ("accelerator", "kvm"), ("kvm_flavour", flavour), ("nested", nested))

    def _facts(self, host: Platform) -> tuple[tuple[str, str], ...]:
        return (
            *self._first_facts(),
            ("limits", _LIMITS),
            ("machine", str(host.machine_for(1, self._makeup))),
            ("file_system", describe_root(self._makeup)),
            ("qemu", qemu_version()),
            *self._manager(host),
            ("guest_kernel", host.kernel_of(self._makeup).version),
            ("guest_kernel_digest", host.kernel_of(self._makeup).digest),
        )

    def _manager(self, host: Platform) -> tuple[tuple[str, str], ...]:
        if self._launcher is not Launcher.LIBVIRT:
            return (("manager", f"none: {self._launcher}"),)
        return (("libvirt", host.connection.versions()["libvirt"]), ("libvirt_driver", "embed"))

    def provision(self, spec: TargetSpec, marks: MarkSink) -> DomainTarget:
        """Make the guest's disks and reserve its addresses; nothing runs.

        Raises:
            ImageNotFound: the store has no such manifest.
            TargetError: it could not be laid out; nothing is left.
        """
        image = ImageStore.open(self._paths).resolve(spec.image)
        with ExitStack() as undo, _told(self._name, "provision"):
            repair(self._paths)
            host = prepare(self._paths)
            check_socket_directory(os.path.join(homes(self._paths), spec.name))
            home = make_home(self._paths, spec.name, cgroup=os.path.join(spec.cgroup_parent, spec.name))
            undo.callback(home.remove)
            disks = lay_out_disks(self._paths, spec, self._makeup, sockets=home.directory)
            undo.callback(disks.remove)
            link = connect(self._paths, spec, self._makeup.network)
            self._bridged |= link is not None and self._makeup.network is NetworkKind.BRIDGE
            target = DomainTarget(
                name=self._name,
                accelerator=self._accelerator,
                host=host,
                home=home,
                disks=disks,
                link=link,
                makeup=self._makeup,
                launcher=self._launcher,
                image_env=image.config.config.env,
                spec=spec,
                marks=marks,
            )
            target.prepare()
            undo.pop_all()
        return target

    def close(self) -> None:
        """Remove our containers' bridge if guests were on it and nobody else is; safe to call twice."""
        if self._bridged:
            apply.remove_idle_bridge(self._paths)
            self._bridged = False


class DomainTarget:
    """One guest."""

    def __init__(
        self,
        *,
        name: str,
        accelerator: Accelerator,
        host: Platform,
        home: GuestHome,
        disks: GuestDisks,
        link: GuestLink | None,
        makeup: Makeup,
        launcher: Launcher,
        image_env: tuple[str, ...],
        spec: TargetSpec,
        marks: MarkSink,
    ) -> None:
        """Take over what has been laid out."""
        self._name = name
        self._accelerator = accelerator
        self._host = host
        self._home = home
        self._disks = disks
        self._link = link
        self._makeup = makeup
        self._launcher = launcher
        self._template: Template | None = None
        self._servers: tuple[ShareServer, ...] = ()
        self._image_env = image_env
        self._spec = spec
        self._marks = marks
        self._layout = cgroups.detect()
        self._cgroup = os.path.join(spec.cgroup_parent, spec.name)
        self._guest: Guest | None = None
        self._destroyed = False

    @property
    def spec(self) -> TargetSpec:
        """What was asked for."""
        return self._spec

    def prepare(self) -> None:
        """Have the template of such guests, where they are clones; the first one takes as long as a boot."""
        if self._launcher is not Launcher.CLONE:
            return
        spec = for_clones(self._domain_spec(()))
        directory = self._home.directory
        self._template = ensure_template(
            os.path.join(self._host.paths.run, "guest-templates"),
            template_key(spec, self._spec.image, str(self._spec.scratch_bytes)),
            lambda template: TemplateGuest(self._host.connection, spec, directory).make(template),
        )

    def _make_guest(self, spec: DomainSpec) -> Guest:
        connection, directory = self._host.connection, self._home.directory
        if self._template is not None:
            return CloneGuest(connection, for_clones(spec), directory, self._template)
        kind = DirectGuest if self._launcher is Launcher.DIRECT else Guest
        return kind(connection, spec, directory)

    def start(self) -> None:
        """Start the guest and its main command; what it raises is said in the protocol."""
        deadline_ns = time.monotonic_ns() + self._spec.start_timeout_ns
        with self._told("start"):
            try:
                directories = cgroups.create(self._layout, self._cgroup)
                procs = tuple(os.path.join(directory, "cgroup.procs") for directory in directories)
                self._serve_shares(procs)
                self._guest = self._make_guest(self._domain_spec(procs))
                self._boot(self._guest, deadline_ns)
            except BaseException:
                self._tear_down()
                raise

    def _serve_shares(self, procs: tuple[str, ...]) -> None:
        for share in self._disks.shares:
            if share.socket:
                server = shares.serve(share.directory, share.socket, cgroup_procs=procs)
                self._servers = (*self._servers, server)

    def _boot(self, guest: Guest, deadline_ns: int) -> None:
        guest.launch()
        self._marks(MarkName.SPAWNED, self._vmm_started_ns())
        self._marks(MarkName.ENVIRONMENT, guest.run(self._guest_command(self._spec.command), deadline_ns=deadline_ns))
        userspace_ns = guest.await_userspace(deadline_ns=deadline_ns)
        guest.await_started(deadline_ns=deadline_ns)
        if self._spec.service_port is not None:
            self._marks(MarkName.USERSPACE, userspace_ns)
            return
        ready_ns = guest.await_output(deadline_ns=deadline_ns)
        guest.await_kernel_age(deadline_ns=deadline_ns)
        self._mark_kernel(guest)
        self._marks(MarkName.USERSPACE, userspace_ns)
        self._marks(MarkName.READY, ready_ns)

    def _vmm_started_ns(self) -> int:
        with open(os.path.join(self._home.directory, STARTED_FILE), encoding="ascii") as file:
            return int(file.read())

    def _mark_kernel(self, guest: Guest) -> None:
        """Tell when the kernel was entered, if that is known: of a service not until it has been silent for a while."""
        if guest.kernel_entered_ns is not None:
            self._marks(MarkName.KERNEL, guest.kernel_entered_ns)

    def _domain_spec(self, procs: tuple[str, ...]) -> DomainSpec:
        limits = self._spec.limits
        return self._host.domain_spec(
            name=self._spec.name,
            directory=self._home.directory,
            accelerator=self._accelerator,
            machine=self._host.machine_for(limits.vcpus, self._makeup),
            vcpus=limits.vcpus,
            memory_bytes=limits.memory_bytes,
            disks=self._disks.disks,
            shares=self._disks.shares,
            network=self._link.network if self._link else None,
            cgroup_procs=procs,
            makeup=self._makeup,
        )

    def _guest_command(self, command: Command) -> GuestCommand:
        env = {"PATH": _PATH, "HOSTNAME": self._spec.name, "HOME": "/root"}
        env |= dict(entry.split("=", 1) for entry in self._image_env if "=" in entry)
        env |= dict(self._spec.command.env) | dict(command.env)
        return GuestCommand(argv=command.argv, env=tuple(env.items()), cwd=command.cwd, stdin=command.stdin)

    def exec(self, command: Command) -> Execution:
        """Run a program in the guest; what it raises is said in the protocol."""
        guest = self._running("exec")
        with self._told("exec"):
            done = guest.execute(self._guest_command(command), timeout_ns=command.timeout_ns)
        if done.exit_code == _NOT_EXECUTED and done.stderr.startswith(_NO_DIRECTORY):
            raise TargetError(done.stderr.decode(errors="replace").strip(), backend=self._name, phase="exec")
        return Execution(
            exit_code=done.exit_code, stdout=done.stdout, stderr=done.stderr, target_elapsed_ns=done.elapsed_ns
        )

    def footprint(self) -> Footprint:
        """Return QEMU's process and cgroups, and the tap device."""
        pid = self._guest.pid if self._guest is not None else None
        return Footprint(
            cgroups=cgroup_directories(self._layout, self._cgroup),
            pids=() if pid is None else (pid,),
            helper_pids=() if pid is None else tuple(server.process.pid for server in self._servers),
            links=self._link.host_links if self._link and pid is not None else (),
            guest_memory=True,
        )

    def endpoint(self) -> Endpoint:
        """Return where the guest's service answers.

        Raises:
            TargetError: it has no network or no service.
        """
        if self._link is None or self._spec.service_port is None:
            raise no_endpoint(self._name)
        return self._link.endpoint(self._spec.service_port)

    def pause(self) -> None:
        """Stop the guest's processors."""
        guest = self._running("pause")
        with self._told("pause"):
            guest.suspend()

    def resume(self) -> None:
        """Let them go on."""
        guest = self._running("resume")
        with self._told("resume"):
            guest.resume()

    def guest_meminfo(self) -> Mapping[str, int]:
        """Return the guest's own /proc/meminfo in bytes."""
        guest = self._running("guest_meminfo")
        with self._told("guest_meminfo"):
            memory = guest.memory_bytes(timeout_ns=_MEMORY_TIMEOUT_NS)
        return memory  # noqa: RET504 - mypy cannot know that the block swallows nothing

    def crash_kernel(self) -> None:
        """Make the guest's kernel panic, by its SysRq key, and return when QEMU has ended with it."""
        guest = self._running("crash_kernel")
        # written where only this guest's kernel reads it: the command runs inside, or not at all
        command = GuestCommand(argv=("/bin/busybox", "sh", "-c", "echo c >/proc/sysrq-trigger"))
        try:
            done = guest.execute(command, timeout_ns=_PANIC_TIMEOUT_NS)
        except DomainError:
            return  # as it should be: nobody is left to answer
        except TimeoutError as error:
            raise TargetTimeout(f"the kernel does not panic: {error}", backend=self._name, phase="crash") from error
        said = done.stderr.decode(errors="replace").strip()
        raise TargetError(f"the kernel does not panic: {said}", backend=self._name, phase="crash")

    def provenance(self) -> Mapping[str, str]:
        """Return the domain's whole XML, if libvirt has it, and QEMU's command line, an argument a line."""
        guest = self._running("provenance")
        with self._told("provenance"):
            xml, argv = guest.provenance()
        documents = {"domain_xml": xml, "qemu_argv": "\n".join(argv)}
        return {name: text for name, text in documents.items() if text}

    def stop(self) -> None:
        """Stop the main command and power off, by force if need be."""
        guest, self._guest = self._guest, None
        if guest is None:
            return
        if self._spec.service_port is not None:
            self._mark_kernel(guest)
        try:
            with self._told("stop"):
                end = guest.stop(grace_ns=_TERM_GRACE_NS)
        finally:
            self._remove_cgroup()
        if end is not None:
            self._marks(MarkName.GONE, end.at_ns)

    def destroy(self) -> None:
        """Remove the guest, its disks, sockets, addresses and cgroups."""
        if self._destroyed:
            return
        self.stop()
        self._remove_cgroup()
        self._disks.remove()
        self._home.remove()
        if self._link is not None:
            self._link.release()
        self._destroyed = True

    def _tear_down(self) -> None:
        """Undo a start that failed; what it was is what counts, so a second failure is not raised."""
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.destroy()
        self._remove_cgroup()

    def _remove_cgroup(self) -> None:
        servers, self._servers = self._servers, ()
        for server in servers:  # they are in it
            server.stop()
        cgroups.remove(self._layout, self._cgroup, deadline_ns=time.monotonic_ns() + _CGROUP_GRACE_NS)

    def _running(self, phase: str) -> Guest:
        if self._guest is None:
            raise TargetError("the guest is not running", backend=self._name, phase=phase)
        return self._guest

    def _told(self, phase: str) -> AbstractContextManager[None]:
        return _told(self._name, phase)


@contextmanager
def _told(backend: str, phase: str) -> Iterator[None]:
    """Raise what fails in the block as an error of this backend."""
    try:
        yield
    except TimeoutError as error:
        raise TargetTimeout(str(error), backend=backend, phase=phase) from error
    except (DomainError, UnavailableError, OSError) as error:
        hint = error.hint if isinstance(error, LabError) else ""
        raise TargetError(str(error), backend=backend, phase=phase, hint=hint) from error
