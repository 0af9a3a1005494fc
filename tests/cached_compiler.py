"""A C++ compiler that works once: what it is given again, it has from before.

`torch.compile` gives the same sources to the C++ compiler in each process that has no programs of
earlier runs, and each time PyTorch's headers, which take ten CPU seconds. This program stands in
front of the real `g++` on the PATH. Its key is all that decides the output: the arguments, and the
contents of the files among them; of the temporary folders, only the names of files.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path


def install(folder: Path, outputs: Path) -> Path | None:
    """A folder for the front of the PATH, with a `g++` that stores outputs; None without one."""
    real = shutil.which("g++")
    if real is None or sys.platform != "linux":
        return None
    outputs.mkdir(exist_ok=True)
    script = folder / "g++"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {__file__} {real} {outputs} "$@"\n')
    script.chmod(stat.S_IRWXU)
    return folder


def compile_once(real: str, outputs: str, *arguments: str) -> int:
    """Link the stored output to where `-o` says, or run the compiler and store what it made."""
    command = [real, *arguments]
    if "-o" not in arguments:
        return subprocess.call(command)
    made = Path(arguments[arguments.index("-o") + 1])
    stored = Path(outputs, key(command, made))
    made.unlink(missing_ok=True)  # it may be the stored file itself, linked
    if stored.exists():
        place(stored, made)
        return 0
    if (code := subprocess.call(command)) == 0 and made.is_file():
        draft = stored.with_suffix(f".{os.getpid()}")
        place(made, draft)
        draft.replace(stored)  # in one move, since another test may look for it now
    return code


def key(command: list[str], made: Path) -> str:
    """A hash of the arguments and of the files among them."""
    total = hashlib.sha256()
    for argument in command:
        path = Path(argument)
        named = path == made or path.is_file()
        total.update(f"{path.name if named else argument}\0".encode())
        if named and path != made and path.suffix:  # not the compiler itself
            total.update(path.read_bytes())
    return total.hexdigest()


def place(source: Path, target: Path) -> None:
    """The same file under another name; a copy where folders are on different disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(compile_once(*sys.argv[1:]))
