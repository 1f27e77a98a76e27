"""--device-read-bps, --device-write-bps, --device-read-iops, --device-write-iops, --blkio-weight: use of block devices.

Source: docs.docker.com/reference/cli/docker/container/run, "--device-read-bps".
"""

from __future__ import annotations

import os
import stat

from lab.container.spec.runtime import BlockIo, ThrottleDevice
from lab.errors import SpecError
from lab.units import parse_bytes

_WEIGHT = "blkio-weight="
_LEAST_WEIGHT, _MOST_WEIGHT = 10, 1000


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


def weight(texts: tuple[str, ...]) -> int | None:
    """Return the weight of --blkio-weight, None where none is asked for.

    Raises:
        SpecError: it is none.
    """
    given = [text.removeprefix(_WEIGHT) for text in texts if text.startswith(_WEIGHT)]
    if not given or given[-1] == "0":
        return None
    if not (given[-1].isdecimal() and _LEAST_WEIGHT <= int(given[-1]) <= _MOST_WEIGHT):
        raise SpecError(f"Range of blkio weight is from {_LEAST_WEIGHT} to {_MOST_WEIGHT}")
    return int(given[-1])


def _throttles(texts: tuple[str, ...], flag: str) -> tuple[ThrottleDevice, ...]:
    return tuple(_throttle(text.removeprefix(f"{flag}=")) for text in texts if text.startswith(f"{flag}="))


def _throttle(text: str) -> ThrottleDevice:
    path, _, rate = text.rpartition(":")
    if not path:
        raise SpecError(f"bad format: {text}", hint="DEVICE:RATE, such as /dev/sda:1mb")
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
