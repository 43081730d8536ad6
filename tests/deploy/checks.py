"""What the deployment's checks share: they are counted, and each prints one line."""

from __future__ import annotations

import sys
from typing import Any


class Checks:
    """Counts what holds and what does not."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.passed = 0
        self.failed = 0
        self.skipped = 0

    def that(self, holds: Any, what: str, detail: Any = "") -> bool:
        """One check: `what` holds; `detail` is shown when it does not."""
        if holds:
            self.passed += 1
            print(f"ok    {self.part}: {what}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL  {self.part}: {what}: {str(detail)[:1500]}", flush=True)
        return bool(holds)

    def equal(self, got: Any, expected: Any, what: str) -> bool:
        """One check: `got` is `expected`."""
        return self.that(got == expected, what, f"got {got!r}, expected {expected!r}")

    def none(self, problems: list[str], what: str) -> bool:
        """One check: there are no problems."""
        return self.that(not problems, what, "\n      ".join(["", *problems[:20]]))

    def skip(self, what: str, why: str) -> None:
        """What cannot be checked here, said aloud."""
        self.skipped += 1
        print(f"SKIP  {self.part}: {what}: {why}", flush=True)

    def finish(self) -> None:
        """Ends the process, with 1 if a check failed."""
        tail = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.part}: {self.passed} passed, {self.failed} failed{tail}", flush=True)
        sys.exit(1 if self.failed else 0)
