"""A guest whose only cgroup hierarchy is v2: the stock guest kernel under TCG, over this host's own files.

The root file system is this host's, shared read-only by virtiofs under an overlay in memory, so that what runs inside
is this very checkout in this very virtual environment.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.linux import command
from lab.paths import Paths
from lab.target.tool_checks import virtiofsd_program
from lab.vm import initramfs
from lab.vm.domain_spec import MachineType
from lab.vm.kernel import ensure_kernel, read_modules
from lab.vm.kernel_options import host_tsc_khz, kernel_options

VCPUS = 2
MEMORY = "1536M"
DEADLINE_S = 600  # three minutes where nothing else runs
MODULES = ("virtiofs", "overlay", "loop", "veth", "bridge", "nf_tables", "nft_chain_nat", "nft_masq", "nft_nat", "tun")
QBOOT = "/usr/share/qemu/qboot.rom"
# As many descriptors as this process may have at all: virtiofsd keeps one for every file that the guest knows.
WITH_ALL_DESCRIPTORS = ("sh", "-c", 'ulimit -n "$(ulimit -H -n)"; exec "$@"', "sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command inside left: its exit code, both its streams as one, and the directory that it could write to."""

    exit_code: int
    output: str
    exchange: Path


class UnifiedHost:
    """Boots the guest anew for every command; ``directory`` is for its files."""

    def __init__(self, paths: Paths, directory: Path) -> None:
        self.paths = paths
        self.directory = directory

    def run(self, script: str) -> Outcome:
        """Run a script for sh as root of the guest; the guest's /run/exchange is ``Outcome.exchange`` here."""
        exchange = Path(tempfile.mkdtemp(dir=self.directory))
        (exchange / "command").write_text(script)
        with ExitStack() as stack:
            files = stack.enter_context(self._shared("root", "/", cache="always"))
            words = stack.enter_context(self._shared("exchange", str(exchange), cache="none"))
            said = self._boot((*files, *words))
        if not (exchange / "exit-code").exists():
            pytest.fail(f"the guest did not come to its end: {said}\n{self._end_of_console()}", pytrace=False)
        return Outcome(
            exit_code=int((exchange / "exit-code").read_text()),
            output=(exchange / "output").read_text(errors="replace"),
            exchange=exchange,
        )

    def _boot(self, devices: tuple[str, ...]) -> str:
        """Run the guest to its end and return the last that QEMU said."""
        try:
            lines = command.run((*self._argv(), *devices), timeout_s=DEADLINE_S).error_text.splitlines()
        except TimeoutError as error:
            return str(error)
        return lines[-1] if lines else "QEMU has ended"

    @contextmanager
    def _shared(self, tag: str, source: str, *, cache: str) -> Iterator[tuple[str, ...]]:
        """Serve a directory to one guest; yield QEMU's arguments for it."""
        path = str(self.directory / f"{tag}.socket")
        options = f"source={source},cache={cache},sandbox=chroot"
        with socket.socket(socket.AF_UNIX) as listening, open(self.directory / f"{tag}.log", "wb") as log:
            listening.bind(path)
            listening.listen()
            argv = (virtiofsd_program(), f"--fd={listening.fileno()}", "--rlimit-nofile=0", "-o", options)
            server = command.spawn(
                (*WITH_ALL_DESCRIPTORS, *argv), stdout=log, stderr=log, pass_fds=(listening.fileno(),)
            )
        try:
            device = f"vhost-user-fs-pci,chardev={tag},tag={tag}"
            yield "-chardev", f"socket,id={tag},path={path}", "-device", device
        finally:
            server.kill()  # it ends with its guest; this is for a guest that never came to be
            server.wait()
            os.unlink(path)

    def _argv(self) -> tuple[str, ...]:
        kernel = ensure_kernel(self.paths)
        tsc_khz = host_tsc_khz(Path("/proc/cpuinfo").read_text())
        options = (*kernel_options(vcpus=VCPUS, tsc_khz=tsc_khz, network=True), "cgroup_no_v1=all")
        firmware = ("-bios", QBOOT) if os.path.exists(QBOOT) else ()
        memory = ("-m", MEMORY, "-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on")
        return (
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "EPYC", "-smp", str(VCPUS),
            "-machine", "q35,memory-backend=memory", *memory, *firmware,
            "-nodefaults", "-display", "none", "-no-reboot",
            "-serial", f"file:{self._console}", "-kernel", kernel.vmlinux,
            "-initrd", self._make_initramfs(), "-append", " ".join(options),
        )  # fmt: skip

    def _make_initramfs(self) -> str:
        modules = read_modules(ensure_kernel(self.paths), (MachineType.Q35.transport_module, *MODULES))
        init = Path(__file__).with_name("init.sh").read_bytes()
        busybox = Path("/bin/busybox").read_bytes()
        entries = (
            initramfs.CpioEntry(name="bin", mode=stat.S_IFDIR | 0o755),
            initramfs.CpioEntry(name="bin/busybox", mode=stat.S_IFREG | 0o755, data=busybox),
            *initramfs.guest_entries(init, modules),
        )
        path = self.directory / "initramfs.cpio"
        path.write_bytes(initramfs.cpio(entries))
        return str(path)

    @property
    def _console(self) -> Path:
        return self.directory / "console.log"

    def _end_of_console(self) -> str:
        lines = self._console.read_text(errors="replace").splitlines() if self._console.exists() else []
        return "\n".join(lines[-30:])


@pytest.fixture(scope="session")
def unified_host(paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> UnifiedHost:
    return UnifiedHost(paths, tmp_path_factory.mktemp("unified"))
