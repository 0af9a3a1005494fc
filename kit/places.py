"""Where the kit keeps what it need not fetch, make or measure twice, and how files get there."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """The kit's folder in the user's cache; `KIT_CACHE` names another place."""
    import platformdirs

    return Path(os.environ.get("KIT_CACHE") or platformdirs.user_cache_path("train-infer-kit"))


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A draft beside the place to write to; at the end it is flushed to the disk and moved there.

    So the place never holds half a file, and what was there stays if the writing fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
