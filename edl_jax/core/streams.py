"""Standard streams that outlive who reads them: a pipe that is closed, a terminal that is gone."""

import errno
import io
import os
import sys

_NAMES = {1: "stdout", 2: "stderr"}


class _Outliving(io.FileIO):
    """A file that throws away what is written once no one can read it any more."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb", closefd=False)
        # A terminal that is gone says what a broken disk says as well.
        self._gone = {errno.EPIPE, errno.EIO} if self.isatty() else {errno.EPIPE}

    def write(self, data: "io.ReadableBuffer") -> int | None:  # type: ignore[name-defined,override]
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in self._gone:
                raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # for what libraries write there as well
        os.close(nowhere)
        return memoryview(data).nbytes


def outlive_readers() -> None:
    """Let the program go on, with the same results and exit code, where its output is read by no one.

    A standard stream that was closed before is /dev/null: else the next file that is opened would have its number, and
    in it whatever a library prints.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it has the lowest number that is free
    for number, name in _NAMES.items():
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 - a number is no path
        elif isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            raw = _Outliving(number)
            setattr(
                sys,
                name,
                io.TextIOWrapper(
                    raw if isinstance(stream.buffer, io.FileIO) else io.BufferedWriter(raw),  # as with python -u
                    encoding=stream.encoding,
                    errors=stream.errors,
                    line_buffering=stream.line_buffering,
                    write_through=stream.write_through,
                ),
            )
