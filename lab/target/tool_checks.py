"""Host programs that workloads, images and tests call: each is run once, never merely looked for."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable

from lab.linux import command
from lab.paths import Paths
from lab.target.spec import Availability

Attempt = Callable[[Paths], Availability]

_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")  # a package of its own | part of QEMU before 8
_BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome")
_ELF = b"\x7fELF"
_C_SOURCE = b"int main(void) { return 0; }\n"
_PAGE = "data:text/html,<p id=answer></p><script>document.getElementById('answer').textContent = 6 * 7</script>"
_ANSWER = ">42<"
_VERSION = re.compile(r"\d+\.\d+")


def program(*argv: str, package: str) -> Attempt:
    """Return an attempt that runs ``argv``, which prints its version and exits with 0."""
    return lambda _paths: _run_program(argv, package)


def c_compiler(_paths: Paths) -> Availability:
    """Compile and link a static program and run it."""
    with tempfile.TemporaryDirectory(prefix="lab-doctor-") as directory:
        binary = os.path.join(directory, "a.out")
        try:
            done = command.run(["gcc", "-static", "-x", "c", "-", "-o", binary], stdin=_C_SOURCE)
        except FileNotFoundError:
            return _missing("gcc", "gcc libc6-dev")
        if done.exit_code != 0:
            return _failed("gcc -static", done, "apt-get install libc6-dev")
        ran = command.run([binary])
    return Availability(available=True) if ran.exit_code == 0 else _failed("a program made by gcc", ran, "")


def command_client(_paths: Paths) -> Availability:
    """Run the console script, which is a program in C if there was a compiler when the lab was installed."""
    program = os.path.join(os.path.dirname(sys.executable), "lab")
    try:
        with open(program, "rb") as file:
            is_compiled = file.read(len(_ELF)) == _ELF
        done = command.run([program, "--version"])
    except FileNotFoundError:
        return Availability(
            available=False, reason=f"there is no {program}", hint="sudo ./lab.sh setup, or pip install -e ."
        )
    if done.exit_code != 0:
        return _failed(f"{program} --version", done, "sudo ./lab.sh setup")
    if not is_compiled:
        reason = f"{program} is a script: every command waits for the start of Python"
        return Availability(available=False, reason=reason, hint="apt-get install gcc libc6-dev; sudo ./lab.sh setup")
    return Availability(available=True)


def browser(_paths: Paths) -> Availability:
    """Let a headless browser run a line of script on a page and print the page."""
    for name in _BROWSERS:
        try:
            return _render(name)
        except FileNotFoundError:
            continue
    return _missing(" or ".join(_BROWSERS), "chromium-headless-shell")


def virtiofsd(_paths: Paths) -> Availability:
    """Let virtiofsd, which lies where no PATH leads, print its version."""
    return _run_program((virtiofsd_program(), "--version"), "virtiofsd")


def virtiofsd_program() -> str:
    """Return where this host has virtiofsd, and where it would be if it has none."""
    return next((path for path in _VIRTIOFSD if os.path.exists(path)), _VIRTIOFSD[0])


def _render(name: str) -> Availability:
    with tempfile.TemporaryDirectory(prefix="lab-doctor-") as profile:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}")
        done = command.run([name, *flags, "--dump-dom", _PAGE])
    if done.exit_code == 0 and _ANSWER in done.text:
        return Availability(available=True, facts=(("program", name),))
    return _failed(f"{name} --headless", done, "apt-get install --reinstall chromium-headless-shell")


def _run_program(argv: tuple[str, ...], package: str) -> Availability:
    try:
        done = command.run(argv)
    except FileNotFoundError:
        return _missing(argv[0], package)
    if done.exit_code != 0:
        return _failed(" ".join(argv), done, f"apt-get install --reinstall {package}")
    return Availability(available=True, facts=_version(done.error_text + "\n" + done.text))


def _version(text: str) -> tuple[tuple[str, str], ...]:
    """Return the first line that holds something like "1.2"; no two programs agree on more than that."""
    numbered = [line.strip() for line in text.splitlines() if _VERSION.search(line)]
    return (("version", numbered[0]),) if numbered else ()


def _missing(program_name: str, package: str) -> Availability:
    return Availability(
        available=False,
        reason=f"{program_name}: no such program",
        hint=f"apt-get install --no-install-recommends {package}",
    )


def _failed(what: str, done: command.Completed, hint: str) -> Availability:
    detail = (done.error_text or done.text).splitlines()
    reason = f"{what}: exit code {done.exit_code}" + (f": {detail[-1]}" if detail else "")
    return Availability(available=False, reason=reason, hint=hint)
