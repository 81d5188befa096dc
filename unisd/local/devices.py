"""How many GPUs this process may use, without importing anything heavy."""

import os
from pathlib import Path


def visible_devices() -> int:
    """GPUs by CUDA_VISIBLE_DEVICES if it is set, else by the device files of the driver."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return len([device for device in listed.split(",") if device.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])
