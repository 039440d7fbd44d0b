"""Show on stderr how far a run has come: drawn with rich where it is installed, else plain lines.

The run's thread only counts. A thread of the display's own draws, a few times a second however much
happens, and has gone when the run returns.

On a terminal the display hangs *below* the cursor, which every redraw leaves where it was, and no
mode of the terminal is changed. So whatever anyone else writes there, worker processes and loggers
included, appears above it, and nothing has to be put right when the process is killed. (What comes
from elsewhere in several lines at once is written over the display, which may be seen beside it.)
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from syncflow.hooks import Hooks
from syncflow.mapping import Node
from syncflow.progress import Board, Line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["shown"]

logger = logging.getLogger("syncflow")

_GIVEN_UP = "cannot show the progress of flow %r"

#: Lines of a display whose height nothing limits.
_MOST_LINES = 20

#: Columns of a bar, at most, and between two cells.
_BAR_WIDTH, _GAP = 16, 2

_COLOURS = {"running": "cyan", "completed": "green", "failed": "red", "cancelled": "yellow"}

#: What terminals do: erase from the cursor to the end, to that of the line, the whole line; go down
#: in the same column, scrolling if need be; save the place of the cursor, and go back there.
_ERASE_BELOW, _ERASE_REST, _ERASE_LINE = "\x1b[J", "\x1b[K", "\x1b[2K"
_DOWN, _SAVE, _BACK = "\x1bD", "\x1b7", "\x1b8"

#: Guards the decision whose display the terminal has. Nothing else happens while it is held.
_claim = threading.Lock()


@contextmanager
def shown(flow_name: str, nodes: Sequence[Node]) -> Iterator[tuple[Hooks, ...]]:
    """Show how far a run comes in the block; yield the hooks that it has to tell.

    Where nobody would watch (stderr is neither a terminal nor a notebook's, or `CI` is set), there
    are none, and nothing is shown. A display that cannot be drawn ends, and the run goes on.
    """
    painter = _painter()
    if painter is None:
        yield ()
        return
    board = Board(flow_name, nodes, monotonic)
    hooks: tuple[Hooks, ...] = (board,)
    over = threading.Event()

    def paint() -> None:
        try:
            while not over.wait(painter.every):
                painter.draw(board)
            painter.finish(board)
        except Exception:  # the terminal may have gone: the run needs none
            logger.warning(_GIVEN_UP, flow_name, exc_info=True)

    thread = threading.Thread(target=paint, name="syncflow-progress", daemon=True)
    try:
        try:
            thread.start()
        except RuntimeError:  # the system has none to give, or the interpreter is exiting
            logger.warning(_GIVEN_UP, flow_name, exc_info=True)
            hooks = ()
        try:
            yield hooks
        finally:
            over.set()
            if hooks:
                thread.join()  # the event wakes it; what it writes takes as long as any print
    finally:
        painter.close()


class _Painter(Protocol):
    """One way to show a board. The display's thread draws, the run's closes it in the end."""

    #: Seconds between two drawings.
    every: float

    def draw(self, board: Board) -> None:
        """Show how things are."""

    def finish(self, board: Board) -> None:
        """Show how things have ended."""

    def close(self) -> None:
        """Give back what was taken. Never fails."""


def _painter() -> _Painter | None:
    """Choose; `None`: nobody watches."""
    stream = sys.stderr
    if os.environ.get("CI"):
        return None
    if _is_of_a_notebook(stream):
        return _Notebook()
    if not _is_terminal(stream):
        return None
    try:
        return _Terminal.claim() or _Plain()
    except ImportError:
        return _Plain()


def _is_terminal(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except (AttributeError, ValueError):  # no stream at all, or a closed one
        return False


def _is_of_a_notebook(stream: Any) -> bool:
    """Tell whether what is written there appears below a notebook's cell."""
    iostream = sys.modules.get("ipykernel.iostream")
    return iostream is not None and isinstance(stream, iostream.OutStream)


class _Plain:
    """Writes a line now and then: of the node that runs, and of each group that has settled."""

    every = 2.0

    def __init__(self) -> None:
        #: What has been told of groups and maps that have settled.
        self._told: set[Line] = set()

    def draw(self, board: Board) -> None:
        self._write(f"{board.flow_name}: {line}" for line in self._news(board, running=True))

    def finish(self, board: Board) -> None:
        self._write(f"{board.flow_name}: {line}" for line in self._news(board, running=False))
        self._write([str(board.summary())])

    def close(self) -> None:
        pass

    def _news(self, board: Board, *, running: bool) -> Iterator[Line]:
        for line in board.lines(_MOST_LINES):
            if line.status == "running":
                if running:
                    yield line
            elif not line.is_step and line not in self._told:
                self._told.add(line)
                yield line

    def _write(self, lines: Any) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if text:
            sys.stderr.write(text)
            sys.stderr.flush()


class _Notebook:
    """Keeps one text below the cell up to date; rich might swallow what the cell prints."""

    every = 0.5

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, board: Board) -> None:
        from IPython.display import display

        lines = [*board.lines(_MOST_LINES), board.summary()]
        data = {"text/plain": "\n".join(map(str, lines))}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    finish = draw

    def close(self) -> None:
        pass


class _Terminal:
    """Draws below the cursor, with bars and colours. At most one at a time: see `claim`."""

    every = 0.1

    def __init__(self, console: Console) -> None:
        self._console = console
        self._write = sys.stderr.write
        self._flush = sys.stderr.flush
        streams = {id(stream): stream for stream in (sys.stderr, sys.stdout)}.values()
        #: The streams of this process that show on a terminal, and what stands for their `write`.
        self._above = [
            (stream, _erasing(stream.write))
            for stream in streams
            if _is_bare(stream) and _is_terminal(stream)
        ]
        for stream, write in self._above:
            stream.write = write  # type: ignore[method-assign]

    @classmethod
    def claim(cls) -> _Terminal | None:
        """Take the terminal; `None`: it has a display already, or can do no more than lines.

        Raises:
            ImportError: There is no rich.
        """
        from rich.console import Console

        with _claim:
            if not _is_bare(sys.stderr):
                return None
            console = Console(file=sys.stderr)
            return None if console.is_dumb_terminal else cls(console)

    def draw(self, board: Board) -> None:
        lines = self._rendered(board)
        self._paint(
            _DOWN * len(lines) + f"\x1b[{len(lines)}A",  # from now on there is room for them
            _SAVE + _ERASE_REST,  # a worker may have ended a line on one of ours
            *(f"\r\n{_ERASE_LINE}{line}" for line in lines),
            _ERASE_BELOW + _BACK,
        )

    def finish(self, board: Board) -> None:
        self._paint(_ERASE_BELOW, "\r\n", *(f"{line}\r\n" for line in self._rendered(board)))

    def close(self) -> None:
        for stream, write in self._above:
            if vars(stream).get("write") is write:
                del stream.write

    def _rendered(self, board: Board) -> list[str]:
        """Return the lines, each shorter than the terminal is wide: none wraps."""
        from rich.segment import Segments
        from rich.table import Table
        from rich.text import Text

        console = self._console
        width, height = console.width - 1, console.height
        lines = [*board.lines(max(1, height - 4)), board.summary()]
        names = [Text(line.name) for line in lines]
        for name in names:
            name.truncate(width // 3, overflow="ellipsis")
        texts = [Text(line.text, _COLOURS[line.status]) for line in lines]
        times, rates = [Text(line.elapsed) for line in lines], [Text(line.rate) for line in lines]
        columns: list[list[Any]] = [names, texts, times, *([rates] if any(rates) else [])]
        # Bars get what the rest leaves: the counts say the same.
        rest = sum(max(cell.cell_len for cell in column) + _GAP for column in columns)
        bar_width = min(_BAR_WIDTH, width - rest)
        if bar_width > 0:
            columns.insert(1, [_bar(line, bar_width) for line in lines])
        table = Table.grid(padding=(0, _GAP, 0, 0))
        for _ in columns:
            table.add_column(no_wrap=True)
        for row in zip(*columns, strict=True):
            table.add_row(*row)
        cut = console.render_lines(
            table, console.options.update_width(width), pad=False, new_lines=True
        )
        with console.capture() as capture:
            console.print(Segments([segment for line in cut for segment in line]), end="")
        return capture.get().rstrip("\n").split("\n")

    def _paint(self, *parts: str) -> None:
        # In one piece: whoever else writes does so before or after it.
        self._write("".join(parts))
        self._flush()


def _bar(line: Line, width: int) -> RenderableType:
    """Return the bar of a line, if it counts anything."""
    from rich.progress_bar import ProgressBar

    if not line.total:
        return ""
    colour = _COLOURS[line.status]
    return ProgressBar(
        line.total, line.settled, width, complete_style=colour, finished_style=colour
    )


def _is_bare(stream: Any) -> bool:
    """Tell whether it is a file's own object, and no display stands between: ours or rich's."""
    return type(stream) is io.TextIOWrapper and "write" not in vars(stream)


def _erasing(write: Callable[[str], int]) -> Callable[[str], int]:
    """Return a `write` whose text takes the place of the display, which is drawn anew below it.

    It stands for the method and not for the stream, so that it serves loggers, too, that have long
    had the stream. It takes no lock: a body may fork, or be interrupted, at any time.
    """

    def erase_and_write(text: str, /) -> int:
        return write(_ERASE_BELOW + text) - len(_ERASE_BELOW) if text else 0

    return erase_and_write
