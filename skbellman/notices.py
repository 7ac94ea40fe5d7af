"""Warnings that name the line of the user's code."""

from __future__ import annotations

import sys
import warnings

# The code between a user's line and a warning.
_INSIDE = ("skbellman.", "sklearn.", "contextlib", "joblib.")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside the library from which it was called.

    Parameters
    ----------
    message : str
        What happened, and what to do.
    category : type of Warning, default=UserWarning

    Examples
    --------
    >>> import warnings
    >>> from skbellman.notices import warn
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("Column 'a' is constant: drop it.")
    >>> caught[0].category.__name__
    'UserWarning'
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and f"{frame.f_globals.get('__name__')}.".startswith(_INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
