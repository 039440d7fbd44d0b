"""What `--input` may be: JSON, `@file.json`, or `-` for stdin."""

import json
import sys
from pathlib import Path
from typing import Any

from syncflow.cli.usage import BadUsage


def read_input(source: str | None) -> Any:
    """Return the flow's input.

    Args:
        source: JSON text, `@` and the path of a JSON file, `-` for JSON on stdin, or `None` for
            no input.

    Returns:
        The decoded JSON; `None` when there is no source.

    Raises:
        BadUsage: The file or stdin cannot be read, or what was read is not JSON.
    """
    if source is None:
        return None
    place = "--input"
    try:
        if source == "-":
            place = "stdin"
            source = sys.stdin.read()
        elif source.startswith("@"):
            place = source[1:]
            source = Path(place).read_text(encoding="utf-8")
        return json.loads(source)
    except OSError as error:
        raise BadUsage(f"cannot read {place}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadUsage(f"{place} is not JSON: {error}") from error
