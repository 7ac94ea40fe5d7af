"""The state of estimators as plain data, which skops saves and loads without running any code.

Pickles keep their own form. Modules and tensors of torch become arrays, tables of pandas and polars
lists and bytes, and objects their type beside what they hold. The types are what skops asks to be
trusted, see `skbellman.io`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

# Add one when a class in the state moves, or when an attribute gets another name or meaning. A test
# compares the names with those in tests/stored_state.json.
FORMAT = 2
_PICKLED = "skbellman_pickle"  # the format of a pickle, among the attributes
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type, np.generic, np.dtype)
# Packages whose objects are their type and their attributes alone.
_KNOWN = ("skbellman.", "torch.nn.modules.", "gymnasium.spaces.")
# Attributes of a torch module that are kept; torch creates the others.
_MODULE_PARTS = ("training", "_parameters", "_buffers", "_modules")


class PackableMixin:
    """An estimator with two forms of its state: that of pickles, and plain data for skops."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return new_of_format, (type(self), FORMAT), {_PICKLED: FORMAT, **self._pickled_state()}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state as plain data; only skops asks for it."""
        return {"skbellman_format": FORMAT, "state": Packer().packed(self._pickled_state())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state of a pickle, or the plain data of skops."""
        if "skbellman_format" in state:
            check_format(state["skbellman_format"])
            state = Unpacker().unpacked(state["state"])
        else:
            check_format(state.get(_PICKLED))
        self._restore({name: value for name, value in state.items() if name != _PICKLED})

    def _pickled_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]


def new_of_format(kind: type, found: Any) -> Any:
    """Return an estimator without attributes.

    A pickle calls this before it looks for the classes in the state, which may have moved since.
    """
    check_format(found)
    return object.__new__(kind)


def check_format(found: Any = None) -> None:
    """Refuse a state of another format; None is that of versions without a format."""
    if found != FORMAT:
        older = "an older version" if found is None else f"another version (format {found!r})"
        raise ValueError(
            f"The file was saved by {older} of skbellman; this version reads format {FORMAT}. Load "
            "it with the version that saved it, or fit again."
        )


def refuse_gone(module: str, name: str, gone: Sequence[str]) -> NoReturn:
    """Refuse a pickle that asks a module for a class that is gone; fail as usual for other names.

    For the ``__getattr__`` of modules in pickles of versions without a format.
    """
    if name in gone:
        check_format()
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


class PackedObject:
    """An object as its type and its attributes."""

    def __init__(self, kind: type, attributes: dict[str, Any]) -> None:
        self.kind, self.attributes = kind, attributes


class PackedTuple:
    """A named tuple as its type and its items."""

    def __init__(self, kind: type, items: list[Any]) -> None:
        self.kind, self.items = kind, items


class PackedMapping:
    """A mapping whose keys are tuples, as two lists."""

    def __init__(self, keys: list[Any], items: list[Any]) -> None:
        self.keys, self.items = keys, items


class PackedSlice:
    """A slice as its three numbers."""

    def __init__(self, numbers: list[Any]) -> None:
        self.numbers = numbers


class PackedTensor:
    """A tensor as an array; whether it is a parameter, and whether it has a gradient."""

    def __init__(self, array: np.ndarray, is_parameter: bool, has_gradient: bool) -> None:
        self.array, self.is_parameter, self.has_gradient = array, is_parameter, has_gradient


class PackedObjects:
    """An array of objects as a list."""

    def __init__(self, shape: tuple[int, ...], items: list[Any]) -> None:
        self.shape, self.items = shape, items


class PackedTable:
    """A frame or series of polars as bytes of Arrow, or of pandas as lists."""

    def __init__(self, library: str, is_series: bool, content: Any) -> None:
        self.library, self.is_series, self.content = library, is_series, content


class Packer:
    """Make plain data of objects; what is there twice is one thing again."""

    def __init__(self) -> None:
        # With the objects themselves, so that no other has their id.
        self._done: dict[int, tuple[Any, Any]] = {}

    def packed(self, value: Any) -> Any:
        """Return a value as plain data."""
        if isinstance(value, _PLAIN):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = value, self._packed(value)
        return self._done[id(value)][1]

    def _packed(self, value: Any) -> Any:
        kind = type(value)
        if kind in (dict, list, tuple, set, frozenset):
            return self._packed_items(value)
        if kind is slice:
            return PackedSlice([value.start, value.stop, value.step])
        if kind is np.ndarray:
            return self._packed_array(value)
        library = kind.__module__.partition(".")[0]
        if library in ("pandas", "polars") and hasattr(value, "to_numpy"):
            return _packed_table(library, value)
        if _is_tensor(value):
            array = value.detach().cpu().numpy().copy()
            return PackedTensor(array, kind.__name__ == "Parameter", value.requires_grad)
        if issubclass(kind, tuple):
            return PackedTuple(kind, [self.packed(item) for item in value])
        if f"{kind.__module__}.".startswith(_KNOWN):
            return PackedObject(kind, self.packed(_attributes(value)))
        return value  # which skops knows, or refuses by name

    def _packed_items(self, value: Any) -> Any:
        if type(value) is dict and tuple in set(map(type, value)):
            return PackedMapping(*(self.packed(list(part)) for part in (value, value.values())))
        if type(value) is dict:
            return {key: self.packed(item) for key, item in value.items()}
        return type(value)(map(self.packed, value))

    def _packed_array(self, value: np.ndarray) -> Any:
        if value.dtype != object:
            return value
        return PackedObjects(value.shape, [self.packed(item) for item in value.ravel().tolist()])


class Unpacker:
    """Make objects of plain data."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}

    def unpacked(self, value: Any) -> Any:
        """Return what plain data stand for."""
        if isinstance(value, _PLAIN):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = self._unpacked(value)
        return self._done[id(value)]

    def _unpacked(self, value: Any) -> Any:
        kind = type(value)
        if kind is dict:
            return {key: self.unpacked(item) for key, item in value.items()}
        if kind in (list, tuple, set, frozenset):
            return kind(map(self.unpacked, value))
        if kind is PackedObject:
            return _object(value.kind, self.unpacked(value.attributes))
        if kind is PackedTuple:
            _check_known(value.kind)
            return value.kind(*map(self.unpacked, value.items))
        if kind is PackedMapping:
            return dict(zip(self.unpacked(value.keys), self.unpacked(value.items), strict=True))
        if kind is PackedSlice:
            return slice(*value.numbers)
        if kind is PackedTensor:
            return _tensor(value)
        if kind is PackedObjects:
            items = [self.unpacked(item) for item in value.items]
            return np.fromiter(items, dtype=object, count=len(items)).reshape(value.shape)
        return _table(value) if kind is PackedTable else value


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_module(kind: type) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(kind, torch.nn.Module)


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that are its own."""
    if hasattr(value, "_pickled_state"):
        return dict(value._pickled_state())
    if not _is_module(type(value)):
        # The generator of a space of gymnasium is the environment's.
        return vars(value) | ({"_np_random": None} if "_np_random" in vars(value) else {})
    fresh = vars(sys.modules["torch"].nn.Module())
    held = vars(value) | ({"generator": None} if "generator" in vars(value) else {})
    return {
        name: dict(item) if name.startswith("_") and name in _MODULE_PARTS else item
        for name, item in held.items()
        if name in _MODULE_PARTS or name not in fresh
    }


def _object(kind: type, attributes: dict[str, Any]) -> Any:
    _check_known(kind)
    made: Any = object.__new__(kind)
    if _is_module(kind):
        sys.modules["torch"].nn.Module.__init__(made)
    if hasattr(made, "_restore"):
        made._restore(attributes)
    else:
        vars(made).update(attributes)
    return made


def _check_known(kind: type) -> None:
    if not f"{kind.__module__}.".startswith(_KNOWN):
        raise ValueError(f"the file holds a {kind}, which is no part of a fitted estimator.")


def _tensor(packed: PackedTensor) -> Any:
    import torch

    tensor = torch.from_numpy(packed.array.copy())
    return torch.nn.Parameter(tensor, packed.has_gradient) if packed.is_parameter else tensor


def _packed_table(library: str, table: Any) -> PackedTable:
    is_series = not hasattr(table, "columns")
    frame = table.to_frame() if is_series else table
    if library == "polars":
        with io.BytesIO() as file:
            frame.write_ipc(file)
            return PackedTable(library, is_series, file.getvalue())
    columns = [_packed_column(frame.iloc[:, j]) for j in range(frame.shape[1])]
    names = [None] if is_series and table.name is None else frame.columns.tolist()
    for j, (name, packed) in enumerate(zip(names, columns, strict=True)):
        _check_made_again(name, frame.dtypes.iloc[j], packed)
    return PackedTable(library, is_series, [names, columns])


def _check_made_again(name: Any, dtype: Any, packed: list[Any]) -> None:
    """Refuse a dtype that its name does not make again."""
    made: Any = None
    with suppress(TypeError, ValueError, NotImplementedError):
        made = _column(sys.modules["pandas"], *packed).dtype
    if made != dtype:
        raise TypeError(
            f"Column {name!r} has dtype {dtype}, which cannot be saved by skops: convert the "
            "column before the fit, or use pickle."
        )


def _packed_column(column: Any) -> list[Any]:
    """Return dtype, cells and categories of a column of pandas."""
    if not hasattr(column, "cat"):
        return [str(column.dtype), _packed_cells(column), None]
    categories = column.cat.categories.to_series()
    held = column.astype(categories.dtype) if categories.dtype.kind == "M" else column
    own = [str(categories.dtype), _packed_cells(categories), bool(column.cat.ordered)]
    return ["category", _packed_cells(held), own]


def _packed_cells(column: Any) -> Any:
    """Return the cells of a column; times as those of NumPy, in UTC if they have a zone."""
    if column.dtype.kind != "M":
        return Packer().packed(column.to_numpy(dtype=object))
    has_zone = getattr(column.dt, "tz", None) is not None
    naive = column.dt.tz_convert("UTC").dt.tz_localize(None) if has_zone else column
    times: np.ndarray = naive.to_numpy()
    # Those of pyarrow are objects if any is missing.
    return times if times.dtype.kind == "M" else naive.astype("datetime64[ns]").to_numpy()


def _table(packed: PackedTable) -> Any:
    if packed.library == "polars":
        import polars as pl

        frame = pl.read_ipc(io.BytesIO(packed.content))
        return frame.to_series() if packed.is_series else frame
    import pandas as pd

    names, columns = packed.content
    series = [_column(pd, *column) for column in columns]
    if packed.is_series:
        return series[0].rename(names[0])
    frame = pd.concat(series, axis=1)
    frame.columns = pd.Index(names)
    return frame


def _column(pd: Any, dtype: Any, cells: Any, categories: Any) -> Any:
    """Return a column of pandas of a dtype, cells and categories."""
    if categories is not None:
        of_dtype, own, ordered = categories
        index = pd.Index(_column(pd, of_dtype, own, None))
        dtype, of_cells = pd.CategoricalDtype(index, ordered), of_dtype
    else:
        of_cells = dtype
    cells = Unpacker().unpacked(cells)
    if cells.dtype.kind != "M":
        return pd.Series(cells, dtype=dtype)
    times = pd.Series(cells)
    times = times.dt.tz_localize("UTC") if ", " in of_cells else times
    return times.astype(of_cells).astype(dtype)
