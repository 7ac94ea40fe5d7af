"""Isolation of estimators from the torch and numpy settings of a process.

Results depend on the parameters and the seed alone, in every thread. Default dtype and device,
disabled gradients, autocast, numpy's error handling and the global random states neither change
them nor are changed. All settings made here belong to the current thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from inspect import isfunction
from typing import Any, TypeVar

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

_Class = TypeVar("_Class", bound=type)

_NUMPY_DEFAULTS: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
# Constructors that use the process's default dtype if none is given.
_OF_DEFAULT_DTYPE = {
    torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.eye,
    torch.linspace, torch.logspace,
}  # fmt: skip
_RANDOM = {
    torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli,
    torch.multinomial, torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.random_,
    torch.Tensor.bernoulli_, torch.Tensor.exponential_,
}  # fmt: skip
_RANDOM_LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}


def with_own_settings(cls: _Class) -> _Class:
    """Decorate a class so that its public methods work as in a fresh process."""
    for name, method in list(vars(cls).items()):
        if isfunction(method) and not name.startswith("_"):
            setattr(cls, name, _in_own_settings(method))
    return cls


def _in_own_settings(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with own_settings():
            return method(*args, **kwargs)

    return wrapped


@contextmanager
def own_settings() -> Iterator[None]:
    """Work as in a fresh process: with gradients, float32 on the CPU, numpy's default errors."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(np.errstate(**_NUMPY_DEFAULTS))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        # A mode costs a Python call for each torch function. Usual defaults need no mode.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.get_default_dtype() != torch.float32:
            stack.enter_context(_SinglePrecision())
        yield


class _SinglePrecision(TorchFunctionMode):
    """Constructors without a dtype give float32."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _OF_DEFAULT_DTYPE and kwargs.get("dtype") is None:
            kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **kwargs)


class Seeded(TorchFunctionMode):
    """While open, torch's random numbers without a generator come from one with this seed.

    They are the numbers after ``torch.manual_seed(seed)``, but the global random state is neither
    read nor written. Dropout is not covered, see `skbellman.fields.networks`.

    Parameters
    ----------
    seed : int

    Examples
    --------
    >>> import torch
    >>> from skbellman.settings import Seeded
    >>> with Seeded(0):
    ...     own = torch.nn.Linear(2, 1).weight
    >>> _ = torch.manual_seed(0)
    >>> bool((own == torch.nn.Linear(2, 1).weight).all())
    True
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RANDOM_LIKE:
            like = args[0]
            kwargs = {"dtype": like.dtype, "device": like.device, **kwargs}
            func, args = _RANDOM_LIKE[func], (like.shape,)
        # The functions of torch.nn.init pass on generator=None.
        if (func in _RANDOM or "generator" in kwargs) and kwargs.get("generator") is None:
            kwargs = {**kwargs, "generator": self._generator(args, kwargs)}
        return func(*args, **kwargs)

    def _generator(self, args: Any, kwargs: dict[str, Any]) -> torch.Generator:
        """Return the generator of the device that is used."""
        values = (*args, *kwargs.values())
        like = next((value for value in values if isinstance(value, torch.Tensor)), None)
        device = torch.device(kwargs.get("device") or (like.device if like is not None else "cpu"))
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self._generators[device]
