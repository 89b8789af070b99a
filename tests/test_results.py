"""Results and their file: every bit comes back, and nothing that was edited does."""

import json
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixsolve.documents import read_document, write_document
from mixsolve.results import MixtureResult, Progress, Statistics, Status
from mixsolve.row_attack import RowAttack


def make_result(**changes):
    result = MixtureResult(
        weights=np.array([0.1, 0.2, 0.7]),
        temperature=0.0,
        value=0.75,
        lower_bound=0.7499999999999999,
        worst_case_value=0.8,
        attack=RowAttack([0, 1, 1], [2, 0, 3], [1.0, 1 / 3, 2 / 3], 2),
        status=Status.OPTIMAL,
        message=Status.OPTIMAL.message,
        passes=3,
        evaluations=5,
        bytes_read=1 << 40,
        seconds=0.1,
        history=[
            Progress(1, 1, 0.05, math.inf, -math.inf),
            Progress(3, 5, 0.1, 0.75, 0.7499999999999999, 0.76, 1 << 40, np.array([0.1, 0.2, 0.7])),
        ],
        solver="Fista(restart=True)",
        statistics=Statistics(peak_memory=1000, phase_seconds={"pass": 0.08}),
    )
    return replace(result, **changes)


def reload(path):
    content = read_document(path)
    attack = content["attack"]
    if attack is not None:
        assert attack.pop("kind") == "rows"
        attack = RowAttack(**attack)
    return MixtureResult.from_dict(content, attack)


def test_status_numbers_never_change():
    assert {status.name: status.value for status in Status} == {
        "OPTIMAL": 0,
        "PASS_LIMIT": 1,
        "ITERATION_LIMIT": 2,
        "TIME_LIMIT": 3,
        "INTERRUPTED": 4,
        "STOPPED_BY_CALLBACK": 5,
        "NUMERICAL_ERROR": 6,
        "ORACLE_LIMIT": 7,
        "TABLE_CHANGED": 8,
    }
    assert len({status.message for status in Status}) == len(Status)


def test_a_result_is_frozen():
    result = make_result()
    with pytest.raises(FrozenInstanceError):
        result.value = 0.0
    with pytest.raises(ValueError, match="read-only"):
        result.weights[0] = 1.0


def test_a_result_does_not_freeze_the_callers_array():
    weights = np.array([0.1, 0.2, 0.7])
    make_result(weights=weights)
    weights[0] = 0.0


def test_gap_is_the_distance_of_the_bounds():
    assert make_result(value=0.75, lower_bound=0.5).gap == 0.25
    assert make_result(value=math.inf, lower_bound=-math.inf).gap == math.inf
    assert Progress(1, 1, 0.0, 2.0, 1.5).gap == 0.5


def test_every_field_survives_the_file(tmp_path):
    result = make_result()
    result.save(tmp_path / "result.json")
    loaded = reload(tmp_path / "result.json")
    assert loaded.to_dict() == result.to_dict()
    assert loaded.status is Status.OPTIMAL
    assert loaded.history[1].passes == 3
    assert loaded.history[0].value == math.inf
    assert math.isnan(loaded.history[0].iterate_value)
    assert loaded.statistics == result.statistics
    assert loaded.weights.tobytes() == result.weights.tobytes()


floats = st.floats(allow_nan=False)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    floats,
    floats,
    st.floats(0, 1e9) | st.lists(st.floats(0, 1e9), min_size=1, max_size=3).map(np.array),
)
def test_floats_keep_every_bit(tmp_path_factory, weights, value, lower_bound, temperature):
    path = tmp_path_factory.mktemp("bits") / "result.json"
    weights = np.array(weights)
    make_result(weights=weights, value=value, lower_bound=lower_bound, temperature=temperature).save(path)
    loaded = reload(path)
    assert loaded.weights.tobytes() == weights.tobytes()
    assert np.array([loaded.value, loaded.lower_bound]).tobytes() == np.array([value, lower_bound]).tobytes()
    assert type(loaded.temperature) is type(temperature)
    assert np.asarray(loaded.temperature).tobytes() == np.asarray(temperature).tobytes()


def test_numpy_integers_and_no_attack_are_saved(tmp_path):
    make_result(passes=np.int64(7), attack=None, value=math.inf).save(tmp_path / "result.json")
    loaded = reload(tmp_path / "result.json")
    assert (loaded.passes, loaded.attack, loaded.value) == (7, None, math.inf)


def test_an_edited_file_is_refused(tmp_path):
    path = tmp_path / "result.json"
    make_result().save(path)
    text = path.read_text()
    for old, new in [("0.75", "0.74"), ("OPTIMAL", "PASS_LIMIT"), ('"passes": 3', '"passes": 2')]:
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(ValueError, match="edited or damaged: its digest does not match"):
            read_document(path)
    document = json.loads(text)
    path.write_text(json.dumps(document, indent=2))  # layout is not content
    assert reload(path).value == 0.75


def test_a_truncated_file_is_refused_at_any_length(tmp_path):
    path = tmp_path / "result.json"
    make_result().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="truncated or is not JSON"):
            read_document(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is JSON of another kind"),
        ("[1, 2]", "is JSON of another kind"),
        ('{"format": "mixsolve result", "version": 2, "content": {}}', "in format version 1; .* has 2"),
        ('{"format": "mixsolve result", "version": 1, "content": 3}', "edited or damaged"),
        ('{"format": "mixsolve result", "version": 1, "content": {"value": NaN}}', "is not JSON"),
        ("[" * 100_000, "truncated or is not JSON"),
        ("\u00e9", "truncated or is not JSON"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_document(path)
    with pytest.raises(FileNotFoundError):
        read_document(tmp_path / "absent.json")


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    make_result().save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_document(path, {"value": math.inf})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        make_result().save(tmp_path / "folder")
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "result.json"]


def test_a_link_keeps_pointing_at_the_file_it_saves_to(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    make_result().save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert reload(tmp_path / "real.json").value == 0.75


def test_sampling_follows_the_weights():
    result = make_result(weights=np.array([0.25, 0.0, 0.75]))
    draws = result.sample(np.random.default_rng(0), 40_000)
    counts = np.bincount(draws, minlength=3)
    assert counts[1] == 0
    # Five standard deviations of a binomial count; the seed is fixed.
    assert abs(counts[0] - 10_000) < 5 * math.sqrt(40_000 * 0.25 * 0.75)
    assert result.sample(1, (2, 3)).shape == (2, 3)
    assert result.sample(1, 5).tolist() == result.sample(1, 5).tolist()
    assert isinstance(result.sample(1), int)
