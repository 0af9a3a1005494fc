"""Names that a package imports when they are first used: `import kit` costs next to nothing."""

import ast
from pathlib import Path


def listed_names(file: str) -> dict[str, str]:
    """Name -> the module of the kit that it comes from, read from the imports of an `__init__.py`.

    Type checkers and editors read the same list, under `if TYPE_CHECKING:`.
    """
    page = ast.parse(Path(file).read_text(encoding="utf-8"))
    imports = (node for node in ast.walk(page) if isinstance(node, ast.ImportFrom))
    ours = [node for node in imports if f"{node.module}.".startswith("kit.")]
    ours = [node for node in ours if node.module != __name__]
    return {alias.name: node.module or "" for node in ours for alias in node.names}
