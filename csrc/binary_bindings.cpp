#include "binary_bindings.h"

#include <pybind11/numpy.h>

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

}  // namespace mixsolve
