"""Which device the tensors are on."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch

from skbellman.packing import PackableMixin


def resolve_device(device: str) -> torch.device:
    """Return the device of a parameter; "auto" is a GPU if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f'device={device!r} is not a device; use "auto", "cpu" or "cuda".'
        ) from error
    if not is_usable(resolved):
        raise ValueError(f'device={device!r} is not available here; use "auto" or "cpu".')
    return resolved


def is_usable(device: torch.device) -> bool:
    """Say whether this machine has the device."""
    return device.type != "cuda" or torch.cuda.is_available()


class PortableMixin(PackableMixin):
    """Files of an estimator that any machine can load, whichever device fitted it.

    Put it left of scikit-learn's base class. ``device`` is the parameter, ``device_`` the device of
    the fitted modules.
    """

    device: str
    device_: torch.device
    # Names of the fitted modules.
    _portable: ClassVar[tuple[str, ...]]

    def _pickled_state(self) -> dict[str, Any]:
        """Return the state with its tensors on the CPU."""
        state = super()._pickled_state()
        return state | {
            name: copy.deepcopy(state[name]).cpu() for name in self._portable if name in state
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Restore the state; tensors go where ``device`` resolves to on this machine."""
        super()._restore(state)
        if "device_" not in state:
            return
        wanted = self.device_ if self.device != "auto" else None
        usable = wanted if wanted is not None and is_usable(wanted) else None
        self.device_ = usable or resolve_device("auto")
        for name in self._portable:
            getattr(self, name).to(self.device_)
