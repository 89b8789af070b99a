// What the native modules check of a table and of a question, so that a mistake
// is an exception and never a wild read, and how an answer becomes a
// dictionary. The arguments have been checked in Python, with better words.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <vector>

#include "passes.h"

namespace mixsolve {

using Doubles = pybind11::array_t<double, pybind11::array::c_style>;
using Integers = pybind11::array_t<int64_t, pybind11::array::c_style>;

inline void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

inline Storage storage_of(int number) {
    require(number >= 0 && number <= static_cast<int>(Storage::kBits64), "unknown storage type");
    return static_cast<Storage>(number);
}

// What belongs to the losses, each an array or None: where the table points
// there must be an owner, so that an array that was converted is left in its
// place.
struct Belongings {
    pybind11::object row_offsets, sample_weight, attack_prior;

    bool ragged() const { return !row_offsets.is_none(); }

    void enter(LossTable& table, int64_t n_rows) {
        if (ragged()) enter_offsets(table, n_rows);
        if (!sample_weight.is_none()) {
            const auto array = sample_weight.cast<Doubles>();
            require(array.size() == table.n_samples, "sample_weight has the wrong length");
            table.sample_weight = array.data();
            sample_weight = array;
        }
        if (!attack_prior.is_none()) enter_prior(table, n_rows);
    }

  private:
    void enter_offsets(LossTable& table, int64_t n_rows) {
        const auto array = row_offsets.cast<Integers>();
        require(array.ndim() == 1 && array.size() >= 2, "row_offsets must have n_samples + 1 entries");
        row_offsets = array;
        const int64_t* const offsets = table.row_offsets = array.data();
        table.n_samples = array.size() - 1;
        table.n_attacks = -1;
        require(offsets[0] == 0 && offsets[table.n_samples] == n_rows,
                "row_offsets must run from 0 to the number of rows");
        for (int64_t i = 0; i < table.n_samples; ++i) require(offsets[i] < offsets[i + 1], "row_offsets must rise");
    }
    void enter_prior(LossTable& table, int64_t n_rows) {
        const auto array = attack_prior.cast<pybind11::array>();
        table.prior_is_double = pybind11::isinstance<pybind11::array_t<double>>(array);
        require(table.prior_is_double || pybind11::isinstance<pybind11::array_t<float>>(array),
                "attack_prior must be float32 or float64");
        require(array.size() == n_rows && (array.flags() & pybind11::array::c_style),
                "attack_prior has the wrong shape");
        table.prior = array.data();
    }
};

// What else is asked for beside values and gradients: shared with Python.
constexpr int kGradientOnly = 0, kPerSample = 1, kBestAttack = 2, kBestRow = 4;

inline void name_wants(pybind11::module_& module) {
    module.attr("PER_SAMPLE") = kPerSample;
    module.attr("BEST_ATTACK") = kBestAttack;
    module.attr("BEST_ROW") = kBestRow;
}

struct Question {
    Doubles weights, temperature;
    Integers samples;
    bool has_samples, float64_scores;
    int64_t n_hessians;

    Question(Doubles weights_, Doubles temperature_, const pybind11::object& samples_, bool float64_scores_,
             int64_t n_hessians_)
        : weights(std::move(weights_)),
          temperature(std::move(temperature_)),
          has_samples(!samples_.is_none()),
          float64_scores(float64_scores_),
          n_hessians(n_hessians_) {
        if (has_samples) samples = samples_.cast<Integers>();
    }

    // Checked; points into the arrays of this question.
    PassRequest request(const LossTable& table) const {
        require(weights.ndim() == 2 && weights.shape(0) >= 1 && weights.shape(1) == table.n_classifiers,
                "weights must have shape (K, n_classifiers)");
        require(temperature.ndim() >= 1 && temperature.ndim() <= 2 && temperature.shape(0) == weights.shape(0) &&
                    (temperature.ndim() == 1 || temperature.shape(1) == table.n_samples),
                "temperature must have shape (K,) or (K, n_samples)");
        require(n_hessians >= 0 && n_hessians <= weights.shape(0), "hessians must be at most K");
        if (has_samples) check_samples(table);
        PassRequest asked{};
        asked.n_queries = weights.shape(0);
        asked.n_hessians = n_hessians;
        asked.weights = weights.data();
        asked.temperature = temperature.data();
        asked.temperature_per_sample = temperature.ndim() == 2;
        asked.samples = has_samples ? samples.data() : nullptr;
        asked.n_samples = has_samples ? samples.size() : table.n_samples;
        asked.float64_scores = float64_scores || table.storage == Storage::kFloat64;
        return asked;
    }

  private:
    void check_samples(const LossTable& table) const {
        require(samples.ndim() == 1 && samples.size() >= 1, "samples must be a list of indices");
        const int64_t* sample = samples.data();
        for (pybind11::ssize_t i = 0; i < samples.size(); ++i) {
            require(sample[i] >= 0 && sample[i] < table.n_samples, "samples are out of range");
            require(i == 0 || sample[i - 1] < sample[i], "samples must rise");
        }
    }
};

// The arrays that a pass answers into, as Python gets them.
struct Answer {
    PassAnswer buffers{};
    pybind11::dict arrays;

    Answer(const LossTable& table, const PassRequest& asked, int want) {
        const int64_t n_queries = asked.n_queries, n_classifiers = table.n_classifiers, n = asked.n_samples;
        buffers.value = room<double>("value", true, {n_queries});
        buffers.gradient = room<double>("gradient", true, {n_queries, n_classifiers});
        buffers.per_sample = room<double>("per_sample", want & kPerSample, {n_queries, n});
        buffers.best_attack = room<int64_t>("best_attack", want & kBestAttack, {n_queries, n});
        buffers.best_row = room<double>("best_row", want & kBestRow, {n_queries, n, n_classifiers});
        buffers.hessian =
            room<double>("hessian", asked.n_hessians > 0, {asked.n_hessians, n_classifiers, n_classifiers});
    }

    pybind11::dict finished() {
        arrays["finite"] = buffers.finite;
        arrays["bytes_read"] = buffers.bytes_read;
        return arrays;
    }

  private:
    template <class Number>
    Number* room(const char* name, bool wanted, std::vector<pybind11::ssize_t> shape) {
        if (!wanted) return nullptr;
        pybind11::array_t<Number, pybind11::array::c_style> array(std::move(shape));
        arrays[name] = array;
        return array.mutable_data();
    }
};

// Of the derivative by the losses; points into the arrays.
inline LossGradientRequest gradient_request(const LossTable& table, const Doubles& weights, const Doubles& temperature,
                                            double scale, bool float64_scores) {
    require(weights.ndim() == 1 && weights.size() == table.n_classifiers, "weights must have shape (n_classifiers,)");
    require(temperature.ndim() == 1 && (temperature.size() == 1 || temperature.size() == table.n_samples),
            "temperature must have shape (1,) or (n_samples,)");
    LossGradientRequest asked{};
    asked.weights = weights.data();
    asked.temperature = temperature.data();
    asked.temperature_per_sample = temperature.size() > 1;
    asked.scale = scale;
    asked.float64_scores = float64_scores || table.storage == Storage::kFloat64;
    return asked;
}

}  // namespace mixsolve
