"""Energy: read from real counter files, with wraps; None where there is none."""

import pytest
import torch

from kit.costs.run_cost import energy_per_call
from kit.devices import metered, processor


class Package:
    """A processor's counter as Linux shows it: files in a folder."""

    def __init__(self, folder, number: int, microjoules: int, wrap: int = 10**9):
        self.folder = folder / f"intel-rapl:{number}"
        self.folder.mkdir()
        (self.folder / "max_energy_range_uj").write_text(f"{wrap}\n")
        self.set(microjoules)

    def set(self, microjoules: int) -> None:
        (self.folder / "energy_uj").write_text(f"{microjoules}\n")


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "POWERCAP", tmp_path)
    return tmp_path


def test_without_a_counter_it_is_unknown_and_not_zero(powercap):
    with metered() as meter:
        pass
    assert meter.joules is None and meter.of == ""
    assert energy_per_call(lambda: None).joules is None


def test_the_joules_of_all_processors_are_added(powercap):
    one, two = Package(powercap, 0, 5_000_000), Package(powercap, 1, 7_000_000)
    with metered() as meter:
        one.set(5_500_000)
        two.set(8_000_000)
    assert meter.joules == pytest.approx(1.5)
    assert meter.of == "processor (RAPL)"


def test_a_counter_that_starts_again_from_zero_is_understood(powercap):
    package = Package(powercap, 0, 999_000_000, wrap=1_000_000_000)
    with metered() as meter:
        package.set(500_000)
    assert meter.joules == pytest.approx(1.5)


def test_parts_of_a_processor_are_not_counted_twice(powercap):
    package = Package(powercap, 0, 0)
    (powercap / "intel-rapl:0:0").mkdir()
    (powercap / "intel-rapl:0:0" / "energy_uj").write_text("0")
    with metered() as meter:
        package.set(1_000_000)
        (powercap / "intel-rapl:0:0" / "energy_uj").write_text("900000")
    assert meter.joules == pytest.approx(1.0)


def test_a_counter_that_nobody_may_read_is_unknown(powercap):
    package = Package(powercap, 0, 0)
    (package.folder / "energy_uj").unlink()  # reading fails, as it does without the right
    with metered() as meter:
        pass
    assert meter.joules is None


def test_energy_per_call_is_a_calls_share(powercap):
    package, used = Package(powercap, 0, 0), [0]

    def call() -> None:
        used[0] += 2_000
        package.set(used[0])

    assert energy_per_call(call, budget_s=0.05).joules == pytest.approx(0.002)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_at_work_uses_energy():
    pytest.importorskip("pynvml", reason="NVIDIA's library for Python reads the counter")
    a = torch.rand(4096, 4096, device="cuda")
    with metered("cuda") as meter:
        for _ in range(200):
            a @ a
    assert meter.joules > 0
