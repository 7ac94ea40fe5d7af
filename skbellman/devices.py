"""Which device the tensors are on."""

from __future__ import annotations

import torch


def resolve_device(device: str) -> torch.device:
    """Return the device of a parameter; "auto" is a GPU if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f'device={device!r} is no device; use "auto", "cpu" or "cuda".') from error
    if not is_usable(resolved):
        raise ValueError(f'device={device!r} is not available here; use "auto" or "cpu".')
    return resolved


def is_usable(device: torch.device) -> bool:
    """Say whether this machine has the device."""
    return device.type != "cuda" or torch.cuda.is_available()


def fork_devices(device: torch.device) -> list[torch.device]:
    """Return the devices whose random states `torch.random.fork_rng` is to keep."""
    return [device] if device.type == "cuda" else []
