"""The guest's kernel command line; what each option buys was measured, and is said beside it."""

from __future__ import annotations

import re
from collections.abc import Collection

_BOGOMIPS = re.compile(r"^bogomips\s*:\s*([\d.]+)$", re.MULTILINE)
_KHZ_PER_BOGOMIPS = 500  # the kernel computes it as TSC frequency in MHz times two where the TSC is the delay timer
_GUEST_HZ = 250  # CONFIG_HZ of Debian's kernels

_ALWAYS = (
    "console=ttyS0",  # the serial port: there before any driver, so that a panic is seen
    "quiet",  # errors only: each byte is an exit to the VMM, in the path that we measure
    "panic=-1",  # a panicked guest resets at once, which ends the VMM, instead of spinning
    "reboot=t",  # reset by triple fault: needs no firmware, and is how init powers off
    "cryptomgr.notests=1",  # self-tests of ciphers that nobody uses here: 280 of 1900 ms under TCG
    "8250.nr_uarts=1",  # one serial port to probe instead of four
    "rcupdate.rcu_expedited=1",  # boot does not wait for grace periods
    "i8042.noaux",  # no keyboard or mouse: do not wait for their controller
    "i8042.nokbd",
    "i8042.nopnp",
    "random.trust_cpu=on",  # seeds from RDRAND: nothing waits for entropy
    "audit=0",  # no audit daemon here, so each record would go to the console
    "lsm=",  # no security module: the image brings no policy, and their set-up costs 50 ms
)
_SKIPPED_INITCALLS = (
    "init_kprobe_trace",  # 60 to 137 ms of self-made probes
    "init_trace_printk_function_export",
    "load_system_certificate_list",  # 54 to 87 ms parsing certificates that sign modules
    "crypto_kdf108_init",  # self-test
    "init_encrypted",  # encrypted keys
    "digsig_init",
)
_SKIPPED_WITHOUT_NETWORK = ("cubictcp_register",)  # 55 to 92 ms parsing BTF; with a network TCP must stay the default


def host_tsc_khz(cpuinfo: str) -> int | None:
    """Return the frequency of the host's time stamp counter from the text of /proc/cpuinfo; None if it is not there."""
    match = _BOGOMIPS.search(cpuinfo)
    return round(float(match[1]) * _KHZ_PER_BOGOMIPS) if match else None


def kernel_options(*, vcpus: int, tsc_khz: int | None, network: bool, without: Collection[str] = ()) -> tuple[str, ...]:
    """Return the options of a guest's kernel.

    ``tsc_khz`` is the frequency of the counter that the guest will see: the host's own. Options whose names are in
    ``without`` are left out.
    """
    options = _options(vcpus=vcpus, tsc_khz=tsc_khz, network=network)
    return tuple(option for option in options if option.partition("=")[0] not in without)


def option_names() -> tuple[str, ...]:
    """Return the names of all options that any guest is started with, sorted."""
    options = _options(vcpus=1, tsc_khz=1, network=False)
    return tuple(sorted(option.partition("=")[0] for option in options))


def _options(*, vcpus: int, tsc_khz: int | None, network: bool) -> tuple[str, ...]:
    skipped = _SKIPPED_INITCALLS + (() if network else _SKIPPED_WITHOUT_NETWORK)
    return (
        *_ALWAYS,
        f"initcall_blacklist={','.join(skipped)}",
        *(_clock_options(tsc_khz) if tsc_khz else ()),
        # one processor stays one: the LOCK prefixes are not patched out and in again (12 000 code invalidations)
        *(("noreplace-smp",) if vcpus == 1 else ()),
        # saves its set-up; with a network it stays, since services listen on [::] by default
        *(() if network else ("ipv6.disable=1",)),
    )


def _clock_options(tsc_khz: int) -> tuple[str, ...]:
    return (
        # microvm has neither HPET nor PM timer: without this the calibration fails and half of all boots hang
        f"tsc_early_khz={tsc_khz}",
        # it is the host's counter, and sound. Beside timer ticks, of which emulation loses some, it looks as if it ran
        # away: kernels since 6.12 then count time by ticks, 4 ms each, and a disk answers in 0 ns
        "tsc=reliable",
        f"lpj={tsc_khz * 1000 // _GUEST_HZ}",  # loops per jiffy, known from it: no calibration loop
        "no_timer_check",  # the emulated timer works; the check counts ticks for 40 ms
    )
