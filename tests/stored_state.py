"""The classes in the state of fitted estimators, with the names of their attributes.

A file that was saved has them, so they belong to a format (`skbellman.packing.FORMAT`). The file
stored_state.json lists them. After a change of either, raise FORMAT and write it again:
``python tests/stored_state.py``.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from functools import cached_property
from pathlib import Path

from skbellman.packing import FORMAT, PackedObject, PackedTuple, Packer

FILE = Path(__file__).parent / "stored_state.json"
# Their keys are names as well; those of other mappings are data.
PARTS = ("_parameters", "_buffers", "_modules")


class Noting(Packer):
    """Packs objects, and notes the names of the attributes of the library's own."""

    def __init__(self):
        super().__init__()
        self.noted = defaultdict(list)

    def _packed(self, value):
        packed = super()._packed(value)
        if type(packed) is PackedObject:
            self.note(packed.kind, packed.attributes)
        elif type(packed) is PackedTuple:
            self.note(packed.kind, dict.fromkeys(packed.kind._fields))
        return packed

    def note(self, kind, attributes):
        # What was computed once and kept depends on the questions before.
        kept = {
            name for name in attributes if isinstance(getattr(kind, name, None), cached_property)
        }
        names = [name for name in attributes if name not in {*PARTS, *kept}]
        names += [f"{part}.{key}" for part in PARTS for key in attributes.get(part, {})]
        if kind.__module__.startswith("skbellman."):
            # Numbers in names count columns.
            found = {re.sub(r"\d+", "0", name) for name in names}
            self.noted[f"{kind.__module__}.{kind.__qualname__}"].append(found)


def state_of(estimator):
    """Return the sets of attributes of each class in the state of an estimator."""
    packer = Noting()
    packer.packed(estimator)
    return dict(packer.noted)


def stored():
    """Return the format of the file, and the attributes that each class has always or sometimes."""
    found = json.loads(FILE.read_text())
    return found["format"], found["classes"]


def classes_of(states):
    """Return what the file holds of the classes of several states."""
    sets = defaultdict(list)
    for state in states:
        for name, found in state.items():
            sets[name] += found
    classes = {}
    for name, found in sorted(sets.items()):
        always = set.intersection(*found)
        sometimes = set.union(*found) - always
        classes[name] = {"always": sorted(always), "sometimes": sorted(sometimes)}
    return classes


def main():
    """Write the file, unless the format is still that of other classes."""
    from test_io import fitted_estimator, lambdas

    classes = classes_of(state_of(fitted_estimator(name)) for name in lambdas())
    if FILE.exists() and stored()[0] == FORMAT and stored()[1] != classes:
        sys.exit(f"The state has changed: raise FORMAT in skbellman/packing.py above {FORMAT}.")
    FILE.write_text(json.dumps({"format": FORMAT, "classes": classes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
