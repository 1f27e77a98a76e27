"""The overlay mount itself, as containers, builds and disks make it; imported between clone and exec, hence so light.

Source: kernel Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os

from lab.linux import mount

# The kernel's defaults for these are its builder's choice. Off, a directory that was renamed, or a file of which only
# the mode changed, is copied up whole: the upper directory can then be packed as a layer, and moved to another host.
_OPTIONS = (("redirect_dir", "off"), ("metacopy", "off"), ("index", "off"))
_USER_OPTIONS = (("redirect_dir", "nofollow"), ("index", "off"))  # "off" follows, which user attributes may not
CONTEXT_STRING_MAX = 255
"""The longest string, in bytes, that fsconfig(2) takes; a longer path is opened, and named by its descriptor."""


def mount_overlay(
    lower: tuple[str, ...], upper: str, work: str, target: str, volatile: bool, *, user_attributes: bool = False
) -> None:
    """Mount an overlay at ``target``; ``lower`` topmost first.

    With ``user_attributes`` it keeps its marks in user.overlay.*, and not in trusted.overlay.*, which need the host's
    root.

    Raises:
        OSError: with errno and the kernel's own explanation where it gave one.
    """
    if takes_layers_one_by_one():
        _mount_by_context(lower, upper, work, target, volatile, user_attributes)
    else:
        options = classic_options(lower, upper, work, volatile, user_attributes=user_attributes)
        mount.mount("overlay", target, "overlay", 0, options)


def takes_layers_one_by_one() -> bool:
    """Return whether this kernel has ``lowerdir+``, for which no limit of a page holds and no character is special."""
    # Not found by trying: before 6.5 the context takes any option, and creating it then complains in the kernel's log.
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor.partition("-")[0])) >= (6, 8)


def classic_options(
    lower: tuple[str, ...], upper: str, work: str, volatile: bool, *, user_attributes: bool = False
) -> str:
    """Return the option string of mount(2), in which ``\\``, ``:`` and ``,`` of paths are escaped."""
    options = [
        "lowerdir=" + ":".join(_escaped(path) for path in lower),
        "upperdir=" + _escaped(upper),
        "workdir=" + _escaped(work),
        *(f"{key}={value}" for key, value in (_USER_OPTIONS if user_attributes else _OPTIONS)),
    ]
    return ",".join(options + ["userxattr"] * user_attributes + ["volatile"] * volatile)


def context_options(
    lower: tuple[str, ...], upper: str, work: str, *, user_attributes: bool = False
) -> tuple[tuple[str, str], ...]:
    """Return the options of fsconfig(2) that have a value, in order."""
    layers = (("lowerdir+", path) for path in lower)
    kept = _USER_OPTIONS if user_attributes else _OPTIONS
    return (("source", "overlay"), *layers, ("upperdir", upper), ("workdir", work), *kept)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _mount_by_context(
    lower: tuple[str, ...], upper: str, work: str, target: str, volatile: bool, user_attributes: bool
) -> None:
    context = mount.fsopen("overlay", mount.FSOPEN_CLOEXEC)
    opened: list[int] = []
    try:
        for key, value in context_options(lower, upper, work, user_attributes=user_attributes):
            mount.fsconfig_set_string(context, key, _short(value, opened))
        for flag in ["userxattr"] * user_attributes + ["volatile"] * volatile:
            mount.fsconfig_set_flag(context, flag)
        mount.fsconfig_create(context, target)
        descriptor = mount.fsmount(context, mount.FSMOUNT_CLOEXEC, mount.MOUNT_ATTR_RELATIME)
        opened.append(descriptor)
        mount.move_mount(descriptor, "", mount.AT_FDCWD, target, mount.MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        for descriptor in (context, *opened):
            os.close(descriptor)


def _short(path: str, opened: list[int]) -> str:
    """Return a path that fits into fsconfig's string: a long one is opened, and named by its descriptor."""
    if len(os.fsencode(path)) <= CONTEXT_STRING_MAX:
        return path
    opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return f"/proc/self/fd/{opened[-1]}"
