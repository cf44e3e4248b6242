"""Energy counters, with a fake powercap folder and a fake NVML."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from keras_resnet.analysis.energy import nvml_meter, rapl_meter

WRAP = 262_143_328_850


def domain(root, folder, name, microjoules, wrap=WRAP):
    path = root / folder
    path.mkdir()
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{wrap}\n")
    return path / "energy_uj"


@pytest.fixture
def powercap(tmp_path):
    """Two packages, the memory of one, and counters that must be left out."""
    counters = {
        "package-0": domain(tmp_path, "intel-rapl:0", "package-0", 1_000_000),
        "dram": domain(tmp_path, "intel-rapl:0:1", "dram", 500),
        "package-1": domain(tmp_path, "intel-rapl:1", "package-1", 7_000_000),
        "core": domain(tmp_path, "intel-rapl:0:0", "core", 900_000),
        "psys": domain(tmp_path, "intel-rapl:2", "psys", 20_000_000),
        "again": domain(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000_000),
    }
    return tmp_path, counters


def test_rapl_sums_packages_and_memory(powercap):
    root, counters = powercap
    meter = rapl_meter(root)
    before = meter.read()
    for counter in counters.values():
        counter.write_text(str(int(counter.read_text()) + 2_500_000))
    assert meter.joules(before, meter.read()) == pytest.approx(3 * 2.5)


def test_rapl_counter_that_started_again(powercap):
    root, counters = powercap
    meter = rapl_meter(root)
    counters["package-1"].write_text(str(WRAP - 400_000))
    before = meter.read()
    counters["package-1"].write_text("600000")
    assert meter.joules(before, meter.read()) == pytest.approx(1.0)


def test_rapl_that_has_not_moved_is_unknown_not_zero(powercap):
    meter = rapl_meter(powercap[0])
    assert meter.joules(meter.read(), meter.read()) is None


def test_no_rapl(tmp_path, powercap):
    assert rapl_meter(tmp_path / "nothing") is None
    root, counters = powercap
    # As where only root may read it; a folder in its place fails for root as well.
    counters["dram"].unlink()
    counters["dram"].mkdir()
    assert rapl_meter(root) is None


def fake_nvml():
    """Fake of `pynvml`: two GPUs that have counted 1 and 2 kJ."""
    nvml = Mock(counts=[1_000_000, 2_000_000], NVMLError=type("NVMLError", (Exception,), {}))
    nvml.nvmlDeviceGetHandleByIndex.side_effect = int
    nvml.nvmlDeviceGetHandleByUUID.side_effect = {"GPU-b": 1}.__getitem__
    nvml.nvmlDeviceGetTotalEnergyConsumption.side_effect = nvml.counts.__getitem__
    return nvml


@pytest.mark.parametrize(("visible", "gpu"), [(None, 0), ("1,0", 1), ("GPU-b", 1)])
def test_nvml_counts_the_visible_gpu(monkeypatch, visible, gpu):
    nvml = fake_nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = nvml_meter()
    before = meter.read()
    nvml.counts[1 - gpu] += 99_000
    assert meter.joules(before, meter.read()) is None
    nvml.counts[gpu] += 1_500
    assert meter.joules(before, meter.read()) == pytest.approx(1.5)


@pytest.mark.parametrize("visible", [None, "1, GPU-b,0"])
def test_nvml_counts_several_gpus(monkeypatch, visible):
    nvml = fake_nvml()
    nvml.nvmlDeviceGetHandleByUUID.side_effect = {"GPU-b": 0}.__getitem__
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = nvml_meter(2)
    before = meter.read()
    nvml.counts[:] = [nvml.counts[0] + 500, nvml.counts[1] + 2_000]
    assert meter.joules(before, meter.read()) == pytest.approx(2.5)


@pytest.mark.parametrize(
    "broken", ["Init", "DeviceGetHandleByIndex", "DeviceGetTotalEnergyConsumption"]
)
def test_nvml_with_an_error(monkeypatch, broken):
    nvml = fake_nvml()
    getattr(nvml, f"nvml{broken}").side_effect = nvml.NVMLError
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert nvml_meter() is None


def test_no_nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if not installed
    assert nvml_meter() is None
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=Exception))
    assert nvml_meter() is None
