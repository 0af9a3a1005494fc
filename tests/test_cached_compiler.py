"""The compiler that works once: other sources and other arguments are compiled, errors stay."""

import os
import subprocess

import pytest
from cached_compiler import install


@pytest.fixture
def answer(tmp_path):
    """Compile a program in a folder of its own, run it, and return the code that it ends with."""
    folder = install(tmp_path, tmp_path / "outputs")
    if folder is None:
        pytest.skip("needs Linux and g++")

    def answer(source, *options):
        place = tmp_path / os.urandom(4).hex()
        place.mkdir()
        (place / "main.cpp").write_text(source)
        files = [str(place / "main.cpp"), "-o", str(place / "main")]
        if code := subprocess.call([str(folder / "g++"), *options, *files], stderr=-3):
            return f"the compiler ended with {code}"
        return subprocess.call([str(place / "main")])

    answer.stored = lambda: len(list((tmp_path / "outputs").iterdir()))
    return answer


def test_only_the_same_is_compiled_once(answer):
    assert [answer("int main() { return N; }", "-DN=3") for _ in range(2)] == [3, 3]
    assert answer.stored() == 1
    assert answer("int main() { return N; }", "-DN=4") == 4
    assert answer("int main() { return N + 1; }", "-DN=4") == 5
    assert answer.stored() == 3


def test_an_error_is_an_error_each_time(answer):
    told = [answer("int main() { return N; }") for _ in range(2)]
    assert told == ["the compiler ended with 1"] * 2 and answer.stored() == 0
