"""The loss table: what is viewed, what is copied, what is refused."""

import pickle

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixsolve.inputs import check_temperature
from mixsolve.storage import widen
from mixsolve.table import LossTable, Storage, as_table

STORAGES = {
    np.float64: Storage.FLOAT64,
    np.float32: Storage.FLOAT32,
    np.float16: Storage.FLOAT16,
    ml_dtypes.bfloat16: Storage.BFLOAT16,
}


def draw(shape=(3, 5, 4), seed=0):
    return np.random.default_rng(seed).random(shape)


def contents(table):
    """The whole table in float64, sample by sample."""
    return [table.sample_losses(i) for i in range(table.n_samples)]


def assert_holds(table, losses):
    for sample, held in enumerate(contents(table)):
        assert held.dtype == np.float64
        assert held.tolist() == np.asarray(losses[:, sample], dtype=np.float64).tolist()


@pytest.mark.parametrize("kind", STORAGES, ids=lambda kind: kind.__name__)
def test_floating_types_are_viewed_as_stored(kind):
    losses = draw().astype(kind)
    table = LossTable(losses)
    assert table.storage is STORAGES[kind]
    assert np.shares_memory(table.array, losses)
    assert table.nbytes == losses.nbytes
    assert not table.array.flags.writeable
    assert losses.flags.writeable
    assert (table.n_classifiers, table.n_samples, table.n_attacks, table.n_rows) == (3, 5, 4, 20)
    assert_holds(table, losses)


@pytest.mark.parametrize("kind", STORAGES, ids=lambda kind: kind.__name__)
def test_every_bit_pattern_widens_exactly(kind):
    if np.dtype(kind).itemsize > 2:
        patterns = (draw((1000,)) * 10.0 ** np.linspace(-30, 30, 1000)).astype(kind)
    else:
        patterns = np.arange(2**16, dtype=np.uint16).view(kind)
        with np.errstate(invalid="ignore"):  # signalling NaNs say so when they are cast
            patterns = patterns[np.isfinite(patterns.astype(np.float64))]
    table = LossTable(patterns.reshape(1, 1, -1))
    assert widen(table.array, table.storage).tobytes() == patterns.astype(np.float64).tobytes()


STRIDED = {
    "samples reversed": lambda a: a[:, ::-1],
    "classifiers reversed": lambda a: a[::-1],
    "every other sample": lambda a: a[:, ::2],
    "classifiers broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "samples broadcast": lambda a: np.broadcast_to(a[:, :1], a.shape),
    "classifiers and samples swapped": lambda a: a.transpose(1, 0, 2),
    "some attacks": lambda a: a[..., 1:3],
    "one attack of many": lambda a: a[..., 1::4],
    "read only": lambda a: np.broadcast_to(a, a.shape),
}


@pytest.mark.parametrize("cut", STRIDED.values(), ids=STRIDED)
def test_strides_along_classifiers_and_samples_cost_no_copy(cut):
    whole = draw()
    losses = cut(whole)
    table = LossTable(losses)
    assert np.shares_memory(table.array, whole)
    assert table.array.strides[-1] == table.array.itemsize
    assert_holds(table, losses)


def packed_field():
    record = np.zeros((3, 5, 4), dtype=[("pad", "u1"), ("loss", "f4")])
    record["loss"] = draw()
    return record["loss"]


COPIED = {
    "attacks reversed": lambda: draw()[..., ::-1],
    "attacks first": lambda: draw().transpose(0, 2, 1),
    "every other attack": lambda: draw()[..., ::2],
    "attacks broadcast": lambda: np.broadcast_to(draw()[..., :1], (3, 5, 4)),
    "foreign byte order": lambda: draw().astype(">f4"),
    "a packed field": packed_field,
    "misaligned": lambda: np.frombuffer(b"x" + draw().tobytes(), dtype=np.float64, offset=1).reshape(3, 5, 4),
}


@pytest.mark.parametrize("make", COPIED.values(), ids=COPIED)
def test_other_layouts_are_copied_once(make):
    losses = make()
    table = LossTable(losses)
    assert not np.shares_memory(table.array, losses)
    assert table.array.flags.c_contiguous
    assert table.array.flags.aligned
    assert table.array.dtype.isnative
    assert_holds(table, losses)


def test_uint8_is_read_as_it_is():
    losses = np.random.default_rng(0).integers(0, 2**8, (3, 5, 4)).astype(np.uint8)
    table = LossTable(losses)
    assert table.storage is Storage.UINT8
    assert np.shares_memory(table.array, losses)
    assert table.nbytes == losses.size
    assert_holds(table, losses)


@pytest.mark.parametrize("kind", ["i1", "i2", "u2", ">i2"])
def test_short_integers_become_float32_exactly(kind):
    losses = np.random.default_rng(0).integers(0, 2**15, (3, 5, 4)).astype(kind)
    table = LossTable(losses)
    assert table.storage is Storage.FLOAT32
    assert_holds(table, losses)


@pytest.mark.parametrize("kind", ["i4", "u4", "i8", "u8"])
def test_long_integers_become_float64_exactly(kind):
    losses = np.random.default_rng(0).integers(0, 2**31, (3, 5, 4)).astype(kind)
    table = LossTable(losses)
    assert table.storage is Storage.FLOAT64
    assert_holds(table, losses)
    if np.dtype(kind).itemsize == 8:
        losses[0, 0, 0] = 2**53 + 1
        with pytest.raises(ValueError, match=r"integers up to 2\*\*53\); got 9007199254740993"):
            LossTable(losses)


def test_scale_and_offset():
    stored = np.random.default_rng(0).integers(0, 256, (3, 5, 4)).astype(np.uint8)
    table = LossTable(stored, scale=1 / 255, offset=-0.5)
    assert_holds(table, stored * (1 / 255) - 0.5)
    losses = draw()
    assert_holds(LossTable(losses, scale=3.0), 3 * losses)
    half = LossTable(losses.astype(ml_dtypes.bfloat16), offset=1.0)
    assert half.storage is Storage.FLOAT32
    assert_holds(half, losses.astype(ml_dtypes.bfloat16).astype(np.float32) + 1)
    with pytest.raises(ValueError, match="`scale` must be finite; got inf"):
        LossTable(losses, scale=np.inf)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_torch_tensors_are_viewed(kind):
    losses = torch.from_numpy(draw()).to(kind)
    table = LossTable(losses.transpose(0, 1))
    assert table.array.ctypes.data == losses.data_ptr()
    expected = losses.transpose(0, 1).to(torch.float64).numpy()
    del losses  # the table keeps the memory
    assert_holds(table, expected)


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int64])
def test_torch_integers_are_taken(kind):
    losses = torch.from_numpy(draw() * 2).to(kind)
    assert_holds(LossTable(losses), losses.numpy())


def test_torch_gradients_are_left_behind():
    losses = torch.from_numpy(draw()).requires_grad_()
    assert_holds(LossTable(losses), losses.detach().numpy())


class OnAnotherDevice:
    """What a CUDA array shows of itself before anything is read."""

    def __dlpack_device__(self):
        return 10, 0

    def __dlpack__(self):
        raise AssertionError("it was read all the same")


def test_arrays_on_another_device_are_refused():
    with pytest.raises(
        ValueError,
        match="`losses` must be in CPU memory or on a CUDA device; got an array on device of DLPack type 10",
    ):
        LossTable(OnAnotherDevice())


def test_memory_maps_are_viewed(tmp_path):
    np.save(tmp_path / "losses.npy", draw())
    mapped = np.load(tmp_path / "losses.npy", mmap_mode="r")
    table = LossTable(mapped)
    assert np.shares_memory(table.array, mapped)
    assert_holds(table, draw())


def test_nested_lists_are_arrays():
    assert_holds(LossTable(draw().tolist()), draw())


def ragged(**belongings):
    return LossTable(draw((3, 10)), row_offsets=[0, 1, 7, 10], **belongings)


def test_ragged_tables():
    losses = draw((3, 10))
    table = ragged()
    assert (table.n_samples, table.n_attacks, table.n_rows) == (3, None, 10)
    assert table.attack_counts.tolist() == [1, 6, 3]
    for sample, part in enumerate([slice(0, 1), slice(1, 7), slice(7, 10)]):
        assert table.sample_losses(sample).tolist() == losses[:, part].tolist()
    assert table.rows([2, 1], [2, 0]).tolist() == losses[:, [9, 1]].T.tolist()


def test_cited_rows_are_widened():
    losses = draw().astype(ml_dtypes.bfloat16)
    cited = LossTable(losses).rows([4, 0, 0], [3, 0, 2])
    assert cited.tolist() == losses[:, [4, 0, 0], [3, 0, 2]].T.astype(np.float64).tolist()


@pytest.mark.parametrize("table", [LossTable(draw((3, 3, 2))), ragged()], ids=["rectangular", "ragged"])
@pytest.mark.parametrize(
    ("sample", "attack", "message"),
    [
        ([0, 3], [0, 0], r"`sample` must be in 0\.\.2; got 0 to 3"),
        ([-1], [0], r"`sample` must be in 0\.\.2; got -1 to -1"),
        ([0, 1], [0, 6], r"`attack` must be in 0\.\.[15] for sample 1; got 6"),
        ([1], [-1], r"`attack` must be in 0\.\.[15] for sample 1; got -1"),
        ([0, 1], [0], r"vectors of equal length; got shapes \(2,\) and \(1,\)"),
    ],
)
def test_citations_outside_the_table_are_refused(table, sample, attack, message):
    for read in (table.rows, table.prior_at):
        with pytest.raises(ValueError, match=message):
            read(sample, attack)


def test_priors_are_kept_as_given_and_normalised_on_the_way_out():
    rng = np.random.default_rng(1)
    prior = rng.dirichlet(np.ones(4), size=5)
    stretched = prior * (1 + 5e-7)
    table = LossTable(draw(), attack_prior=stretched.astype(np.float32))
    assert table.attack_prior.dtype == np.float32
    for sample in range(5):
        assert table.prior_of(sample).sum() == pytest.approx(1, abs=4e-16)
        np.testing.assert_allclose(table.prior_of(sample), prior[sample], rtol=2e-7)  # float32 rounding
    assert table.prior_at([4, 0], [1, 2]).tolist() == [table.prior_of(4)[1], table.prior_of(0)[2]]
    assert LossTable(draw()).prior_of(2).tolist() == [0.25] * 4
    assert (
        LossTable(draw(), attack_prior=np.full((5, 4), 0.25, dtype=np.float16)).attack_prior.dtype
        == np.float64
    )
    uneven = ragged(attack_prior=[1.0, *[1 / 6] * 6, 0.25, 0.5, 0.25])
    assert uneven.prior_of(2).tolist() == [0.25, 0.5, 0.25]
    assert ragged().prior_at([1, 2], [0, 0]).tolist() == [1 / 6, 1 / 3]


def test_blocks_lay_samples_side_by_side():
    for table in (LossTable(draw()), ragged(attack_prior=[1.0, *[1 / 6] * 6, 0.25, 0.5, 0.25])):
        block = table.block(1, 3)
        assert block.starts.tolist() == [0, table.attack_counts[1]]
        assert block.losses.tolist() == np.hstack([table.sample_losses(1), table.sample_losses(2)]).tolist()
        assert block.prior.tolist() == [*table.prior_of(1), *table.prior_of(2)]


@given(st.lists(st.floats(0, 1e300) | st.floats(0, 1e-300), min_size=5, max_size=5).filter(any))
def test_sample_weights_are_normalised_at_any_magnitude(sample_weight):
    share = LossTable(draw(), sample_weight=sample_weight).sample_weight
    assert share.sum() == pytest.approx(1, abs=4e-16)
    assert np.argmax(share) == np.argmax(sample_weight)


def test_uniform_sample_weights_are_all_one_table():
    digests = {LossTable(draw(), sample_weight=w).digest() for w in (None, [1] * 5, np.full(5, 0.3))}
    assert len(digests) == 1


def test_the_digest_sees_every_part():
    losses, prior = draw(), np.full((5, 4), 0.25)
    changed = losses.copy()
    changed[2, 4, 3] = np.nextafter(changed[2, 4, 3], 2)
    tilted = prior.copy()
    tilted[0] = [0.2, 0.3, 0.25, 0.25]
    tables = [
        LossTable(losses),
        LossTable(changed),
        LossTable(losses.astype(np.float32)),
        LossTable(losses.reshape(3, 4, 5)),
        LossTable(losses.reshape(3, 20), row_offsets=[0, 4, 8, 12, 16, 20]),
        LossTable(losses.reshape(3, 20), row_offsets=[0, 3, 8, 12, 16, 20]),
        LossTable(losses, sample_weight=[1, 2, 3, 4, 5]),
        LossTable(losses, attack_prior=tilted),
    ]
    assert len({table.digest() for table in tables}) == len(tables)
    assert LossTable(losses[:, ::-1][:, ::-1]).digest() == LossTable(losses.copy()).digest()


def test_tables_can_be_pickled_after_use():
    table = LossTable(draw(), sample_weight=[1, 2, 3, 4, 5])
    assert table.native is table.native
    assert pickle.loads(pickle.dumps(table)).digest() == table.digest()


def test_as_table_passes_tables_and_refuses_a_second_opinion():
    table = LossTable(draw())
    assert as_table(table) is table
    assert as_table(draw(), sample_weight=[1, 2, 3, 4, 5]).sample_weight[0] == 1 / 15
    for name in ("row_offsets", "sample_weight", "attack_prior"):
        with pytest.raises(ValueError, match=f"`{name}` must be None when `losses` is a LossTable"):
            as_table(table, **{name: [1.0]})


def prior_with(value):
    prior = np.full((5, 4), 0.25)
    prior[2, 1] = value
    return prior


REFUSED = [
    (
        {"losses": draw((4, 10))},
        r"must have 3 dimensions \(classifiers, samples, attacks\); got shape \(4, 10\)",
    ),
    ({"losses": 3.0}, r"`losses` must have 3 dimensions .*; got shape \(\)$"),
    (
        {"losses": draw(), "row_offsets": [0, 20]},
        r"2 dimensions \(classifiers, rows\) with `row_offsets`; got shape",
    ),
    (
        {"losses": draw((0, 5, 4))},
        r"at least one classifier, one sample and one attack; got shape \(0, 5, 4\)",
    ),
    (
        {"losses": draw((3, 5, 0))},
        r"at least one classifier, one sample and one attack; got shape \(3, 5, 0\)",
    ),
    ({"losses": [[[1.0], [2.0, 3.0]]]}, "`losses` must be a rectangular array; got nested sequences"),
    ({"row_offsets": [1, 20]}, "`row_offsets` must start at 0; got 1"),
    ({"row_offsets": [0, 19]}, "`row_offsets` must end at the number of rows, 20; got 19"),
    (
        {"row_offsets": [0, 5, 5, 20]},
        r"rise strictly \(every sample needs an attack\); sample 1 got rows 5:5",
    ),
    ({"row_offsets": [0, 7, 5, 20]}, "sample 1 got rows 7:5"),
    ({"row_offsets": [20]}, r"`row_offsets` must have shape \(n_samples \+ 1,\), n_samples >= 1; got \(1,\)"),
    ({"sample_weight": [1, 2]}, r"`sample_weight` must have shape \(5,\), one per sample; got shape \(2,\)"),
    (
        {"sample_weight": [1, 1, 1, -1, 1]},
        "`sample_weight` must be finite and non-negative; got -1.0 for sample 3",
    ),
    (
        {"sample_weight": [1, np.inf, 1, 1, 1]},
        "`sample_weight` must be finite and non-negative; got inf for sample 1",
    ),
    ({"sample_weight": np.zeros(5)}, "`sample_weight` must have a positive entry; got all zero"),
    ({"attack_prior": [0.25] * 4}, r"the shape of one plane, \(5, 4\); got shape \(4,\)"),
    ({"attack_prior": prior_with(0.0)}, r"positive and finite; got 0.0 at index \(2, 1\)"),
    ({"attack_prior": prior_with(np.nan)}, r"positive and finite; got nan at index \(2, 1\)"),
    ({"attack_prior": prior_with(np.inf)}, r"positive and finite; got inf at index \(2, 1\)"),
    ({"attack_prior": prior_with(0.25001)}, "within 1e-06; got 1.00001 for sample 2"),
    ({"scale": np.nan}, "`scale` must be finite; got nan"),
    ({"offset": -np.inf}, "`offset` must be finite; got -inf"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_wrong_values_are_named(changes, message):
    flat = draw((3, 20)) if "row_offsets" in changes else draw()
    with pytest.raises(ValueError, match=message):
        LossTable(**{"losses": flat, **changes})


WRONG_TYPES = [
    *(
        {"losses": draw().astype(kind)}
        for kind in (complex, object, str, np.longdouble, ml_dtypes.float8_e4m3fn)
    ),
    {"losses": np.zeros((3, 5, 4), dtype="M8[s]")},
    {"losses": np.ma.masked_array(draw())},
    {"losses": None},
    {"losses": torch.zeros((3, 5, 4), dtype=torch.complex64)},
    {"losses": draw((3, 20)), "row_offsets": [0.0, 20.0]},
    {"sample_weight": "uniform"},
    {"sample_weight": np.ones(5, dtype=complex)},
    {"sample_weight": np.ones(5, dtype=bool)},
    {"attack_prior": np.full((5, 4), "0.25")},
    {"attack_prior": np.full((5, 4), 0.25, dtype=object)},
]


@pytest.mark.parametrize("changes", WRONG_TYPES)
def test_wrong_types_are_named(changes):
    name = list(changes)[-1]
    with pytest.raises(TypeError, match=f"`{name}` must"):
        LossTable(**{"losses": draw(), **changes})


def test_values_that_are_not_finite_are_left_to_the_first_pass():
    losses = draw()
    losses[0, 0, 0] = np.nan
    LossTable(losses)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(0, 0.0), (np.float32(0.5), 0.5), (np.zeros(3), 0.0), (np.array(2), 2.0), (5e-324, 5e-324)],
)
def test_one_temperature_is_a_number(temperature, expected):
    checked = check_temperature(temperature, 3)
    assert type(checked) is float
    assert checked == expected


def test_a_temperature_per_sample_is_an_array():
    assert check_temperature([1, 2, 3], 3).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("temperature", "error", "message"),
    [
        (-1e-9, ValueError, "finite and non-negative; got -1e-09"),
        (np.nan, ValueError, "finite and non-negative; got nan"),
        ([1, np.inf, 1], ValueError, "finite and non-negative; got inf"),
        ([0, 1, 0], ValueError, "0 for all samples or positive for all; got 2 zeros among 3"),
        ([1, 2], ValueError, r"a number or have shape \(3,\), one per sample; got shape \(2,\)"),
        ([[1, 2, 3]], ValueError, r"got shape \(1, 3\)"),
        ("0.1", TypeError, "must be an array of real numbers; got type <U3"),
        (None, TypeError, "must be an array of real numbers; got type object"),
        (1j, TypeError, "must be an array of real numbers; got type complex128"),
    ],
)
def test_wrong_temperatures_are_named(temperature, error, message):
    with pytest.raises(error, match=f"`temperature` must be .*{message}|{message}"):
        check_temperature(temperature, 3)
