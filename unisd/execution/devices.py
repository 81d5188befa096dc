"""Which GPUs this process may use, without importing anything heavy."""

import os
from pathlib import Path


def visible_devices() -> tuple[str, ...]:
    """Ids of the GPUs: those of CUDA_VISIBLE_DEVICES if it is set, else all that the driver has files for."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return tuple(device for part in listed.split(",") if (device := part.strip()) not in ("", "-1"))
    numbers = [path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia*")]
    return tuple(sorted((number for number in numbers if number.isdigit()), key=int))


def device_id(place: int) -> str:
    """The id of the GPU at a place among those that this process may use; the place itself where none is known."""
    devices = visible_devices()
    return devices[place] if place < len(devices) else str(place)
