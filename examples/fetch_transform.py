"""Fetch 40 modules of the standard library over HTTP, transform them, and write a report.

A step serves this interpreter's own library from a loopback address. Threads fetch the sources,
processes tokenize, count and compress them, and a flow within this one writes a report and an
index, which are removed again if a later step fails:

    syncflow run examples/fetch_transform.py
    syncflow run examples/fetch_transform.py --input '{"report": "report.txt"}'
    syncflow run examples/fetch_transform.py --input '{"fail_late": true}'
"""

import io
import keyword
import sysconfig
import tempfile
import threading
import tokenize
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from syncflow import Context, Flow, Step

LIBRARY = Path(sysconfig.get_path("stdlib"))
MODULES = sorted(path.stem for path in LIBRARY.glob("[a-z]*.py"))[:40]

#: The loopback address is reached directly, whatever proxy the environment names.
client = build_opener(ProxyHandler({}))


class Handler(SimpleHTTPRequestHandler):
    """Serves files, and writes no log."""

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as there are modules to fetch."""

    request_queue_size = len(MODULES)


def serve(ctx: Context) -> str:
    """Serve the standard library on a free port; return the address."""
    server = Server(("127.0.0.1", 0), partial(Handler, directory=str(LIBRARY)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    ctx.set("server", server)
    return f"http://127.0.0.1:{server.server_port}"


def stop_serving(ctx: Context) -> None:
    """Close the server: the last step of a good run, and part of the rollback of a bad one."""
    ctx["server"].shutdown()
    ctx["server"].server_close()


def fetch(ctx: Context, module: str) -> bytes:
    """Return the source of a module."""
    with client.open(f"{ctx.value('serve')}/{module}.py", timeout=ctx.remaining) as response:
        return bytes(response.read())


def sources(ctx: Context) -> Iterator[tuple[str, bytes]]:
    """Make the items of the map: each module with its source."""
    for module in MODULES:
        yield module, ctx.value(f"fetch {module}")


def transform(ctx: Context, item: tuple[str, bytes]) -> dict[str, Any]:
    """Count the identifiers of a module and compress its source. CPU work, on a process."""
    module, source = item
    names = Counter(
        token.string
        for token in tokenize.tokenize(io.BytesIO(source).readline)
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    )
    return {
        "module": module,
        "names": names.total(),
        "favourite": names.most_common(1)[0][0] if names else "",
        "size": len(source),
        "compressed": len(zlib.compress(source, level=9)),
    }


def collect(ctx: Context) -> None:
    """Put into the state what is to be published, and where: the input's `report` or a new name."""
    default = Path(tempfile.gettempdir(), f"fetch-transform-{ctx.run_id}.txt")
    ctx.set("report", Path((ctx.input or {}).get("report", default)))
    ctx.set("found", ctx.value("transform"))


def write_report(ctx: Context) -> str:
    """Write one line a module, and return the path."""
    line = "{module:20}{names:7}{size:9}{compressed:9}  {favourite}\n"
    with ctx["report"].open("w", encoding="utf-8") as report:
        report.writelines(line.format(**found) for found in ctx["found"])
    return str(ctx["report"])


def remove_report(ctx: Context) -> None:
    """Undo `write_report`, however far it came."""
    ctx["report"].unlink(missing_ok=True)


def write_index(ctx: Context) -> str:
    """Write which modules each favourite identifier is that of, and return the path."""
    modules: dict[str, list[str]] = {}
    for found in ctx["found"]:
        modules.setdefault(found["favourite"], []).append(found["module"])
    index: Path = ctx["report"].with_suffix(".index")
    index.write_text("".join(f"{name}: {' '.join(modules[name])}\n" for name in sorted(modules)))
    return str(index)


def remove_index(ctx: Context) -> None:
    """Undo `write_index`, however far it came."""
    ctx["report"].with_suffix(".index").unlink(missing_ok=True)


def announce(ctx: Context) -> None:
    """Fail when the input says so, to show the rollback."""
    if (ctx.input or {}).get("fail_late"):
        raise RuntimeError("the input asked for a late failure")


flow = (
    Flow("fetch-transform", pools={"transform": "process"})
    .step("serve", serve, compensate=stop_serving)
    .parallel(
        "fetch",
        [
            Step(
                f"fetch {module}",
                partial(fetch, module=module),
                timeout=5,
                retries=3,
                retry_delay=0.1,
                backoff="exponential",
                jitter=True,
                retry_on=OSError,
            )
            for module in MODULES
        ],
        fail_fast=True,
    )
    .map("transform", transform, over=sources, pool="transform", timeout=30, fail_fast=True)
    .step("collect", collect)
    .step(
        Flow("publish")
        .step("report", write_report, compensate=remove_report, compensate_on="started")
        .step("index", write_index, compensate=remove_index, compensate_on="started")
    )
    .step("announce", announce)
    .step("stop", stop_serving)
)

if __name__ == "__main__":
    print(flow.run().table())
