"""1, 2 and 4 replicas and 2 processes train alike."""

from __future__ import annotations

import numpy as np
import pytest

from tests.distributed.train_processes import cluster, finish, start
from tests.helpers import distance

KINDS = ("1", "2", "4", "2 processes")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of `train_strategies.py` under every strategy."""
    directory = tmp_path_factory.mktemp("strategies")
    outputs = [directory / f"{name}.npz" for name in (*KINDS, "second worker")]
    processes = [
        start("train_strategies.py", output, replicas, directory / str(replicas))
        for output, replicas in zip(outputs, (1, 2, 4), strict=False)
    ] + [
        start("train_strategies.py", output, 0, directory / "workers", TF_CONFIG=config)
        for output, config in zip(outputs[3:], cluster(2), strict=True)
    ]
    for process in processes:
        finish(process)
    *found, second_worker = (dict(np.load(output)) for output in outputs)
    for name, value in found[3].items():
        np.testing.assert_array_equal(value, second_worker[name], err_msg=f"{name} by worker")
    return dict(zip(KINDS, found, strict=True))


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize(
    "group",
    [
        *("synchronized", "synchronized_moving", "recomputed_moving", "quarters"),
        *("targets", "muon", "muon_moving", "best"),
    ],
)
def test_weights_and_statistics_are_the_same(results, kind, group):
    """With synchronized normalization; recomputed; and with the same replica batches."""
    reference = results["1"]
    names = [name for name in reference if name.startswith(f"{group}/")]
    assert names
    for name in names:
        assert distance(results[kind][name], reference[name]) <= 1e-5, name


def test_the_strategies_are_what_they_should_be(results):
    assert [int(results[kind]["replicas"]) for kind in KINDS] == [1, 2, 4, 2]


def test_moving_averages_are_means_over_replicas(results):
    """Workers and replicas of one machine average alike, and alike for each of them."""
    for name in results["2"]:
        if name.startswith("quarters_moving/"):
            ours, theirs = results["2"][name], results["2 processes"][name]
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_the_same(results, kind):
    np.testing.assert_allclose(results[kind]["evaluated"], results["1"]["evaluated"], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_averages_are_evaluated_alike(results, kind):
    averages = results[kind]["averages"]
    assert averages[0] != averages[1]
    np.testing.assert_allclose(averages, results["1"]["averages"], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_counts_stay_whole_and_right(results, kind):
    """Rows of each epoch and of the test split, rows out of a checkpoint, and batches."""
    np.testing.assert_array_equal(results[kind]["rows"], results["1"]["rows"])
    assert results[kind]["evaluated"][2] == results[kind]["restored"] == 37
    synchronized = {k: v for k, v in results[kind].items() if k.startswith("synchronized_moving")}
    assert [int(v) for v in synchronized.values() if v.dtype == "int32"] == [20]


@pytest.mark.parametrize("kind", KINDS)
def test_the_global_generator_and_replicas_that_would_meet_in_a_loop_are_refused(results, kind):
    refusal, loop = (str(results[kind].get(name)) for name in ("refusal", "loop_refusal"))
    assert "must draw random numbers from a keras.random.SeedGenerator" in refusal
    if kind != "1":
        assert loop.startswith("`model` must have no stacked blocks") and "\n" not in loop


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_that_makes_its_variables_late(results, kind):
    assert results["1"]["f1"].min() > 0.5
    np.testing.assert_allclose(results[kind]["f1"], results["1"]["f1"], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_infinity_on_one_replica_skips_the_step_on_all(results, kind):
    found = results[kind]
    # Weights and the optimizer's momentum and count, on each replica.
    assert found["overflow_unchanged"] and found["overflow_goes_on"]
    assert found["overflow_equal"] and found["overflow_finite"]
    assert found["overflow_scale"] == 512.0
    assert found["overflow_updates"] == 3
