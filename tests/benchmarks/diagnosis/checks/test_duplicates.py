from __future__ import annotations

import time

import numpy as np
import pytest
from helpers.evidence import make_context, make_evidence

from benchmarks.diagnosis.check import checks
from benchmarks.diagnosis.checks.duplicates import count_bits, find_pairs, has_detail
from benchmarks.diagnosis.finding import Status


def run(evidence, other=None, **fields):
    return checks["duplicates"](**fields).run(evidence, make_context(evidence, other=other or {}))


def flip(hashes, *bits):
    for bit in bits:
        hashes = hashes ^ np.uint64(2**bit)
    return hashes


def random_hashes(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def pairs_of(hashes, bits=2):
    return find_pairs(hashes, np.zeros(len(hashes), np.int64), bits, np.ones(len(hashes), bool))


def test_bits_are_counted():
    np.testing.assert_array_equal(count_bits(np.array([0, 1, 3, 2**64 - 1], np.uint64)), [0, 1, 2, 64])


@pytest.mark.parametrize("bits", [(5,), (0, 63), (21, 22), (30, 31)])
def test_pairs_are_those_of_brute_force(bits):
    hashes = random_hashes(200)
    hashes[150:] = flip(hashes[:50], *bits)
    distance = count_bits((hashes[:, None] ^ hashes[None]).reshape(-1)).reshape(200, 200)
    expected = np.argwhere(np.triu(distance <= 2, 1))
    np.testing.assert_array_equal(pairs_of(hashes), expected)
    assert len(expected) == 50


def test_images_without_detail_are_not_duplicates():
    hashes = np.zeros(50, np.uint64)
    assert not has_detail(hashes).any()
    result = run(make_evidence(50, hashes=hashes, features=np.ones((50, 3))))
    assert result.status is Status.passed
    assert "50 images without detail" in result.sentence


def test_a_near_hash_needs_near_features():
    hashes, features = random_hashes(40), np.random.default_rng(1).normal(size=(40, 8))
    hashes[1] = flip(hashes[0], 7)
    assert run(make_evidence(40, hashes=hashes, features=features)).status is Status.passed
    features[1] = features[0] * 2
    result = run(make_evidence(40, hashes=hashes, features=features))
    assert result.status is Status.warned
    keys = {suspect.key for suspect in result.suspects}
    assert keys == {"contrary-labels", "within-split"}
    np.testing.assert_array_equal(result.suspects[0].members, [0, 1])
    assert result.picture is not None


def test_duplicates_across_splits_fail():
    hashes = random_hashes(200)
    other = np.concatenate([random_hashes(30, seed=5), flip(hashes[[3, 9]], 40), flip(hashes[[5]], 3, 4)])
    result = run(make_evidence(200, hashes=hashes), {"train": ([f"t{i}" for i in range(len(other))], other)})
    assert result.status is Status.failed
    np.testing.assert_array_equal(result.suspects[0].members, [3, 9])


def test_few_duplicates_across_splits_warn():
    hashes = random_hashes(200)
    result = run(make_evidence(200, hashes=hashes), {"train": (["a"], hashes[:1])})
    assert result.status is Status.warned


@pytest.mark.slow
def test_many_images_take_little_time():
    hashes = random_hashes(30_000)
    hashes[:5_000] = hashes[0]
    start = time.perf_counter()
    pairs = pairs_of(hashes)
    print(f"{time.perf_counter() - start:.1f} s")
    assert len(np.unique(pairs)) >= 5_000
