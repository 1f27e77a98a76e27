"""--device-read-bps, --device-write-bps, --device-read-iops, --device-write-iops: what block devices may be asked for.

Source: docs.docker.com/reference/cli/docker/container/run, "--device-read-bps".
"""

from __future__ import annotations

import os
import stat

from lab.container.spec.runtime import BlockIo, ThrottleDevice
from lab.errors import SpecError
from lab.units import parse_bytes


def block_io(texts: tuple[str, ...]) -> BlockIo:
    """Return "FLAG=DEVICE:RATE" of these flags as limits; others among ``texts`` are left out.

    Raises:
        SpecError: a rate that is none, or a path that is no block device.
    """
    return BlockIo(
        throttle_read_bps_device=_throttles(texts, "device-read-bps"),
        throttle_write_bps_device=_throttles(texts, "device-write-bps"),
        throttle_read_iops_device=_throttles(texts, "device-read-iops"),
        throttle_write_iops_device=_throttles(texts, "device-write-iops"),
    )


def _throttles(texts: tuple[str, ...], flag: str) -> tuple[ThrottleDevice, ...]:
    return tuple(_throttle(text.removeprefix(f"{flag}=")) for text in texts if text.startswith(f"{flag}="))


def _throttle(text: str) -> ThrottleDevice:
    path, _, rate = text.rpartition(":")
    try:
        found = os.stat(path)
        number = parse_bytes(rate)
    except ValueError as error:
        raise SpecError(f"invalid rate for device: {text}", hint="DEVICE:RATE, such as /dev/sda:1mb") from error
    except OSError as error:
        raise SpecError(f"{path or text}: {error.strerror}", hint="DEVICE:RATE, such as /dev/sda:1mb") from error
    if not stat.S_ISBLK(found.st_mode):
        raise SpecError(f"{path}: not a block device")
    return ThrottleDevice(major=os.major(found.st_rdev), minor=os.minor(found.st_rdev), rate=number)
