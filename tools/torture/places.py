"""Where a part keeps its files: a disk of its own that can fill, become read-only or go away.

The disks are mounted in a mount namespace of this process. Nothing else on the computer sees them,
and they are gone with the process, however it ends.
"""

import ctypes
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DISK_BYTES = 48 * 2**20
INSIDE = "KIT_TORTURE_MOUNTS"  # "1": this process has its mount namespace; "0": it cannot have one
PATIENCE_S = 5.0
SUBREAPER = 36  # prctl(2): what a child leaves behind becomes a child of this process
JUMP = Path(__file__).with_name("jump.c")


def enter(arguments: list[str]) -> None:
    """Start this program again in a mount namespace, and adopt what its children leave behind."""
    if sys.platform != "linux":
        sys.exit("torture needs Linux: mount namespaces, prlimit and /proc.")
    if INSIDE not in os.environ:
        own = ["--user", "--map-root-user"] if os.geteuid() else []
        command = ["unshare", "--mount", *own]
        can = shutil.which("unshare") and not subprocess.run([*command, "true"]).returncode
        os.environ[INSIDE] = "1" if can else "0"
        os.execvp(*(("unshare", [*command, *arguments]) if can else (arguments[0], arguments)))
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def mounts_work() -> bool:
    """Whether this process may mount disks of its own."""
    return os.environ.get(INSIDE) == "1"


class Place:
    """The folders of a trial: `out` for what the part keeps, `home` for all else."""

    def __init__(self, crowded: bool):
        self.root = Path(tempfile.mkdtemp(prefix="kit-torture-")).resolve()
        self.home, self._disk = self.root / "home", self.root / "disk"
        self.out = self.root / "media" / "stick"
        for folder in (self.home, self._disk, self.out):
            folder.mkdir(parents=True)
        if mounts_work():
            _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "torture", self._disk)
            # The folder in which the disk appears is read-only: without the disk, nothing can be
            # written there.
            _mount("--bind", self.root / "media", self.root / "media")
            _mount("-o", "remount,bind,ro", self.root / "media")
            self.plug()
        # Where a computer has one disk, the cache and the temporary files are on it, too.
        more = self.out if crowded and mounts_work() else self.home
        self.cache, self.temporary = more / "cache", more / "tmp"
        for folder in (self.cache, self.temporary):
            folder.mkdir()
        self._filler = self.out / "filler"

    def plug(self) -> None:
        """Mount the disk."""
        _mount("--bind", self._disk, self.out)

    def unplug(self) -> None:
        """Take the disk away while files on it are open, as a stick or a network share goes."""
        subprocess.run(["umount", "--lazy", self.out], check=True)

    def fill(self, left_bytes: int = 0) -> None:
        """Leave no room on the disk, or only this."""
        status = os.statvfs(self.out)
        size = status.f_bavail * status.f_frsize - left_bytes
        with self._filler.open("ab") as file:
            while size > 0:
                try:
                    size -= os.write(file.fileno(), bytes(min(size, 2**20)))
                except OSError:
                    return

    def make_room(self) -> None:
        """Remove what filled the disk."""
        self._filler.unlink(missing_ok=True)

    def read_only(self) -> bool:
        """Make the disk read-only; False while a program has a file open for writing."""
        # Such as an administrator's `mount -o remount,ro`, or the system after an error of a disk.
        return not subprocess.run(
            ["mount", "-o", "remount,bind,ro", self.out], stderr=subprocess.DEVNULL
        ).returncode

    def writable(self) -> None:
        """Make it an ordinary disk again."""
        _mount("-o", "remount,bind,rw", self.out)

    def remove(self) -> None:
        """Unmount everything and delete the folders."""
        for folder in (self.out, self.root / "media", self._disk):
            if mounts_work():
                subprocess.run(["umount", "--lazy", folder], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.root, ignore_errors=True)


def _mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


class Clock:
    """The clock of the commands under test; it can jump, and no other program sees that.

    A small library stands before the C library's clock (see jump.c). So everything in the process
    sees the jump, also NumPy and the kernels of notebooks. The clock that only counts on
    (CLOCK_MONOTONIC) does not jump, as on a real computer. The times of files stay right.
    """

    def __init__(self, folder: Path):
        self.file, self.library = folder / "clock", folder / "jump.so"
        self.file.write_bytes(bytes(8))
        compiler = shutil.which("cc") or shutil.which("gcc")
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", self.library, JUMP, "-ldl"]
        self.works = bool(compiler) and not subprocess.run(command).returncode

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the commands whose clock this is."""
        if not self.works:
            return {}
        return {"LD_PRELOAD": str(self.library), "KIT_TORTURE_CLOCK": str(self.file)}

    def jump(self, seconds: int) -> None:
        """Be wrong by this much from now on."""
        with self.file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as memory:
            memory[:8] = struct.pack("q", seconds)


def wait_until(true, seconds: float) -> bool:
    """Whether it becomes true within this time; a time in which this process slept is no time."""
    left, last = seconds, time.monotonic()
    while not (done := true()) and left > 0:
        time.sleep(0.01)
        now = time.monotonic()
        left, last = left - min(now - last, 0.5), now
    return bool(done)
