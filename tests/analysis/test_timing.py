"""Steps that take turns, and what is made of their times."""

from keras_resnet.analysis import timing
from keras_resnet.analysis.plots.forms import timings
from tests.analysis.conftest import written
from tests.helpers import refused


def test_steps_take_turns_and_begin_by_turns():
    calls = []
    steps = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    times = timing.take_turns(steps, rounds=4)
    assert "".join(calls) == "aabbcc" + "abc" + "bca" + "cab" + "abc"
    assert {name: len(own) for name, own in times.items()} == {"a": 4, "b": 4, "c": 4}
    with refused("rounds", 2):
        timing.take_turns(steps, rounds=2)


def test_rows_are_medians_and_ratios_within_a_round(tmp_path):
    # Of a machine that became twice as slow in the middle.
    times = {"a": [1.0, 1.0, 2.0, 2.0, 4.0], "b": [3.0, 3.0, 6.0, 6.0, 12.0]}
    first, second = timing.summarize(times, batch_size=8)
    assert first == {
        "form": "a",
        "batch_size": 8,
        "seconds": 2.0,
        "first_quartile": 1.0,
        "third_quartile": 2.0,
        "images_per_second": 4.0,
        "ratio": 1.0,
        "rounds": 5,
    }
    assert (second["seconds"], second["ratio"]) == (6.0, 3.0)
    timings([first, second], tmp_path / "times.png", title="times")
    rows, text = written(tmp_path / "times.png")
    assert [float(row["ratio"]) for row in rows] == [1, 3] and "time of an image (ms)" in text
