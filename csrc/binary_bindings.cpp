#include "binary_bindings.h"

#include <pybind11/numpy.h>

#include "interruption.h"

namespace py = pybind11;

namespace mixsolve {
namespace {

template <class Number>
py::array_t<Number> copied(const std::vector<Number>& numbers) {
    return py::array_t<Number>(static_cast<py::ssize_t>(numbers.size()), numbers.data());
}

}  // namespace

py::tuple as_python(const BinaryRows& rows) {
    if (!rows.found) return py::make_tuple(rows.rows_read, py::none());
    return py::make_tuple(rows.rows_read, py::make_tuple(copied(rows.offsets), copied(rows.fooled), copied(rows.attack),
                                                         copied(rows.mass), copied(rows.group), copied(rows.leader)));
}

py::tuple binary_groups(const Integers& offsets, const Words& fooled, const py::object& mass,
                        const py::object& temperature) {
    require(offsets.ndim() == 1 && offsets.size() >= 1 && fooled.ndim() == 1, "offsets and sets are lists");
    const int64_t* const ends = offsets.data();
    const py::ssize_t n_samples = offsets.size() - 1;
    require(ends[0] == 0 && ends[n_samples] == fooled.size(), "offsets must run from 0 to the number of sets");
    for (py::ssize_t i = 0; i < n_samples; ++i) require(ends[i] <= ends[i + 1], "offsets must not fall");
    const Doubles priors = mass.is_none() ? Doubles() : mass.cast<Doubles>();
    const Doubles levels = temperature.is_none() ? Doubles() : temperature.cast<Doubles>();
    require(mass.is_none() || priors.size() == fooled.size(), "mass has the wrong length");
    require(temperature.is_none() || levels.size() == n_samples, "temperature has the wrong length");
    BinaryRows rows{};
    rows.offsets.assign(ends, ends + offsets.size());
    rows.fooled.assign(fooled.data(), fooled.data() + fooled.size());
    if (!mass.is_none()) rows.mass.assign(priors.data(), priors.data() + priors.size());
    const double* const level = temperature.is_none() ? nullptr : levels.data();
    {
        const WithoutInterpreter released;
        find_groups(level, rows);
    }
    return py::make_tuple(copied(rows.group), copied(rows.leader));
}

}  // namespace mixsolve
