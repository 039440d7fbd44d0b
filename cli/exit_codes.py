"""What the exit code of `syncflow` says."""

from typing import Final

#: The flow completed.
COMPLETED: Final = 0
#: The flow failed or was cancelled, and everything it had done is undone.
FAILED: Final = 1
#: The command was not understood, or its target could not be loaded; nothing ran.
USAGE: Final = 2
#: The flow failed, and so did a part of its rollback: something it did is still in place.
ROLLBACK_INCOMPLETE: Final = 3
#: Ctrl-C (128 + SIGINT), after the rollback.
INTERRUPTED: Final = 130
#: SIGTERM (128 + SIGTERM), after the rollback.
TERMINATED: Final = 143
