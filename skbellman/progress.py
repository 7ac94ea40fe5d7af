"""Progress of a fit, printed with the time left."""

from __future__ import annotations

import sys
import time


class Progress:
    """Print lines on the progress of a fit. In a terminal, each line replaces the last one.

    Examples
    --------
    >>> from skbellman.progress import Progress
    >>> Progress().show(5, 20, "loss 0.3")
    step 5 of 20 (25%, 0:00 left): loss 0.3
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._is_open = False

    def show(self, step: int, n_steps: int, figures: str, may_grow: bool = False) -> None:
        """Print a line. The time left assumes that the other steps take as long as these.

        ``may_grow`` says that more steps than these may follow.
        """
        left = (time.monotonic() - self._begun) * (n_steps / step - 1)
        minutes, seconds = divmod(round(left), 60)
        planned = f"{n_steps} or more" if may_grow else str(n_steps)
        share = f"{step / n_steps:.0%}, {minutes}:{seconds:02d} left"
        line = f"step {step} of {planned} ({share}): {figures}"
        if sys.stdout.isatty():
            print(f"\r{line}\x1b[K", end="", flush=True)  # the code clears the rest of the line
            self._is_open = True
        else:
            print(line)

    def close(self) -> None:
        """End the line in a terminal."""
        if self._is_open:
            print()
        self._is_open = False
