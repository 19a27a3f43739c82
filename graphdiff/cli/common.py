"""What all commands share: errors, exit codes, JSON, tables and progress bars.

Exit codes: 0 done; 1 an unexpected error, with its traceback; 2 a mistake that the message says
how to mend (a :class:`~graphdiff.core.errors.GraphdiffError`, a wrong option); 130 Ctrl-C.
Results go to stdout and everything else to stderr, so ``--json`` output can always be piped.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

__all__ = [
    "Force",
    "Json",
    "Threads",
    "confirm_out",
    "emit",
    "execute",
    "make_app",
    "note",
    "pairs",
    "pick_device",
    "progress_bar",
    "set_threads",
    "table",
    "write_json",
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is in the output folder.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; torch chooses if absent.")
]


def make_app(help: str) -> typer.Typer:
    """A typer app with the settings of this project."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def execute(app: typer.Typer, prog: str) -> NoReturn:
    """Run ``app`` and leave the process with the exit codes of this module."""
    try:
        app(prog_name=prog)
    except KeyboardInterrupt:
        note("stopped")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        # Only now: the errors live in a package that `--help` need not pay for.
        from graphdiff.core.errors import GraphdiffError

        if not isinstance(error, GraphdiffError):
            raise
        complain(str(error))
        sys.exit(2)
    sys.exit(0)


def complain(message: str) -> None:
    """One red line on stderr."""
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(("error: ", "bold red"), (" ".join(message.split()), "red"))
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)


def note(message: str) -> None:
    """One line on stderr."""
    print(message, file=sys.stderr, flush=True)


def emit(value: Any) -> None:
    """Print ``value`` as JSON on stdout."""
    print(json.dumps(plain(value), indent=2, allow_nan=False))


def write_json(path: Path, value: Any) -> Path:
    """Write ``value`` as JSON: under a temporary name first, so that no half file is left."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(plain(value), indent=2, allow_nan=False) + "\n", "utf-8")
    temporary.replace(path)
    return path


def plain(value: Any) -> Any:
    """``value`` in JSON types; a number that is not finite becomes ``None``."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "tolist"):  # numpy and torch numbers and arrays
        return plain(value.tolist())
    return str(value)


def table(rows: Sequence[Sequence[Any]], header: Sequence[str], title: str = "") -> None:
    """Print a table on stdout: plain text when piped, so that ``cut`` and ``grep`` work."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        for row in (header, *rows):
            print("\t".join(str(cell) for cell in row))
        return
    grid = Table(*header, title=title or None, title_justify="left", header_style="bold")
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    console.print(grid)


@contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with the time that is left; yields ``update(done, total)``.

    Nothing is drawn when ``quiet`` or when stderr is no terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def confirm_out(out: Path, *, force: bool, holds: str) -> None:
    """Refuse to overwrite: ``out`` must not hold the file ``holds`` unless ``force``.

    Raises:
        DataError: There are results already, or the folder cannot be made.
    """
    from graphdiff.core.errors import DataError

    if (out / holds).exists() and not force:
        raise DataError(
            f"{out} holds results already ({holds}); choose another --out, or replace them "
            "with --force"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"cannot write into {out}: {error.strerror}; choose a writable --out folder"
        ) from error


def pick_device(name: str) -> str:
    """``auto`` is CUDA where there is some, else the CPU; another is tried on a single number.

    Raises:
        ArgumentError: This machine has no such device.
    """
    import torch

    from graphdiff.core.checks import moving_to

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    with moving_to(name):
        torch.zeros(1, device=name).item()
    return name


def set_threads(threads: int | None) -> None:
    """Limit torch to ``threads`` CPU threads."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def pairs(options: list[str] | None, flag: str) -> dict[str, Any]:
    """``NAME=VALUE`` options; a value is JSON where it is valid JSON, else text."""
    from graphdiff.core.errors import ArgumentError

    result: dict[str, Any] = {}
    for option in options or ():
        name, equals, text = option.partition("=")
        if not equals or not name:
            raise ArgumentError(f"{flag} {option!r}: expected NAME=VALUE")
        try:
            result[name] = json.loads(text)
        except ValueError:
            result[name] = text
    return result
