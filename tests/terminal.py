"""A terminal to run things on, and what a person would see there."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
import unicodedata
from pathlib import Path

COLUMNS, ROWS = 100, 25

#: Variables that a terminal's user does not have.
IN_THE_WAY = {"CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES"}

#: Seconds after which a wait for words on the terminal has failed.
PATIENCE = 30.0

#: Makes stdin the controlling terminal, whose Ctrl-C then reaches the program.
_LAUNCH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
_LAUNCH += "os.execv(sys.argv[1], sys.argv[1:])"

_SEQUENCE = re.compile(r"\x1b(?:\[([0-9;]*)([A-Za-z])|([78D]))|([\x00-\x1f])|([^\x00-\x1f]+)")


class Terminal:
    """A pseudo-terminal. Whatever is written there is read at once, by a thread of its own."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.modes = termios.tcgetattr(self._slave)
        #: Writes to it from this process.
        self.stream = os.fdopen(os.dup(self._slave), "w", encoding="utf-8")
        self._data = bytearray()
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return  # nobody holds the other end any more
            with self._arrived:
                self._data += data
                self._arrived.notify_all()

    @property
    def text(self) -> str:
        """All that has arrived."""
        return self._data.decode(errors="replace")

    def wait_for(self, words: str) -> None:
        """Return as soon as the words have arrived."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: words in self.text, PATIENCE), self.text

    def wait_for_another(self, words: str) -> None:
        """Return as soon as the words have arrived once more."""
        with self._arrived:
            more = self.text.count(words) + 1
            assert self._arrived.wait_for(lambda: self.text.count(words) >= more, PATIENCE)

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C."""
        os.write(self._master, b"\x03")

    def start(
        self, *command: str, cwd: Path, stdout: int | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a program here; its stdout may be elsewhere."""
        return subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *command],
            cwd=cwd,
            env=environment_of_a_terminal() | environment,
            stdin=self._slave,
            stdout=self._slave if stdout is None else stdout,
            stderr=self._slave,
            start_new_session=True,
            text=True,
        )

    def end(self) -> list[str]:
        """Close it, once all who write there have ended; return the lines that are to be seen."""
        if self._reader.is_alive():
            assert self.modes == termios.tcgetattr(self._slave)
            self.stream.close()
            os.close(self._slave)
            self._reader.join()  # it reads to the end, which comes with that of the last writer
            os.close(self._master)
        return seen(self.text)


def environment_of_a_terminal() -> dict[str, str]:
    """Return the environment of this process as a terminal's user has it."""
    kept = {name: value for name, value in os.environ.items() if name not in IN_THE_WAY}
    return kept | {"TERM": "xterm-256color"}


def cells(line: str) -> int:
    """Return how many columns a line takes."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line)


def seen(text: str) -> list[str]:
    """Return the lines that a terminal shows of a text, those scrolled away first.

    It knows the sequences that a display may use, and refuses all that change a mode.
    """
    lines, top, row, column = [""], 0, 0, 0
    saved = (0, 0)
    position = 0
    while position < len(text):
        match = _SEQUENCE.match(text, position)
        assert match is not None, text[position : position + 20]
        position = match.end()
        number, command, short, control, words = match.groups()
        if words is not None:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + words + line[column + len(words) :]
            column += len(words)
            # In a full line, what is erased next depends on the terminal.
            assert cells(lines[row]) < COLUMNS, lines[row]
        elif control == "\r":
            column = 0
        elif control == "\n" or short == "D":
            row += 1
            if row == len(lines):
                lines.append("")
            top = max(top, row - ROWS + 1)
        elif short == "7":
            saved = (row - top, column)
        elif short == "8":
            row, column = top + saved[0], saved[1]
        elif command == "A":
            row = max(top, row - int(number))
        elif command == "J":
            assert number == ""
            lines[row] = lines[row][:column]
            lines[row + 1 :] = [""] * (len(lines) - row - 1)
        elif command == "K":
            assert number in ("", "2")
            lines[row] = "" if number else lines[row][:column]
        else:
            assert command == "m", match.group()  # colours
    return "\n".join(line.rstrip() for line in lines).rstrip().split("\n")
