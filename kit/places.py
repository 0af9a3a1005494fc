"""Where the kit keeps what it need not fetch, make or measure twice."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The kit's folder in the user's cache; `KIT_CACHE` names another place."""
    import platformdirs

    return Path(os.environ.get("KIT_CACHE") or platformdirs.user_cache_path("train-infer-kit"))
