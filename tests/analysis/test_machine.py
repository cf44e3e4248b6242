"""What the system tells of the processor."""

from pathlib import Path

from keras_resnet.analysis import machine

INTEL = "processor : 0\nmodel name\t: A processor\nflags\t\t: fpu avx2 avx512f amx_bf16\n"
ARM = "processor : 0\nFeatures : fp asimd bf16\n"


def test_name_and_features_are_those_of_the_first_core(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: INTEL + INTEL.replace("avx2", ""))
    assert machine.processor_name() == "A processor"
    assert list(machine.processor_features()) == ["avx2", "avx512f", "amx_bf16"]
    monkeypatch.setattr(Path, "read_text", lambda path: ARM)
    assert machine.processor_name() and machine.processor_features() == {"bf16": "bfloat16"}


def test_a_system_may_tell_nothing(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert machine.processor_name() and machine.processor_features() == {}
