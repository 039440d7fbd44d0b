"""What starts anew with every program: imports, and the first worker process."""

from __future__ import annotations

from syncflow.bench.case import Case, Settings, Side
from syncflow.bench.flows import at_most
from syncflow.bench.fresh import taking, telling

__all__ = ["cases"]

_IMPORT = """
from time import perf_counter
began = perf_counter()
import {module}
took = perf_counter() - began
print([took, 0])
"""

_FIRST = """
from time import perf_counter
began = perf_counter()
{imports}
value = {value}
print([perf_counter() - began, int(value)])
"""


def cases(_: Settings) -> list[Case]:
    """Return imports, then first results."""
    return [
        Case(
            "a fresh interpreter that imports",
            (
                Side("import syncflow", taking("import syncflow")),
                Side("import attrs", taking("import attrs"), at_most(1.3)),
                Side("nothing", taking("")),
            ),
        ),
        Case(
            "the import alone",
            (
                Side("import syncflow", telling(_IMPORT.format(module="syncflow"))),
                Side("import attrs", telling(_IMPORT.format(module="attrs"))),
            ),
        ),
        Case(
            "the first result of a process in a fresh interpreter",
            (
                Side(
                    "syncflow",
                    telling(
                        _FIRST.format(
                            imports="from syncflow import Flow",
                            value="Flow('start').step('first', callable, pool='process')"
                            ".run().raise_for_status()['first'].value",
                        )
                    ),
                ),
                Side(
                    "loky.ProcessPoolExecutor(1)",
                    telling(
                        _FIRST.format(
                            imports="from loky import ProcessPoolExecutor",
                            value="ProcessPoolExecutor(1).submit(callable, None).result()",
                        )
                    ),
                    at_most(1.1),
                ),
            ),
        ),
    ]
