// Losses and scores of a few rows side by side, which a thread moves as one.
#pragma once

#include "arithmetic.h"

namespace mixsolve {
namespace cuda {

template <int kBytes>
struct alignas(kBytes) Words {
    uint32_t word[kBytes / 4];
};

MIXSOLVE_DEVICE void unpack(const Words<16>& words, float (&losses)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) losses[r] = bits_to_float(words.word[r]);
}
MIXSOLVE_DEVICE void unpack(const Words<16>& words, double (&losses)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) losses[r] = bits_to_double(words.word[2 * r], words.word[2 * r + 1]);
}
template <int kBytes>
MIXSOLVE_DEVICE void unpack(const Words<kBytes>& words, Float16 (&losses)[kBytes / 2]) {
#pragma unroll
    for (int r = 0; r < kBytes / 2; ++r) {
        losses[r].bits = static_cast<uint16_t>(r % 2 == 0 ? words.word[r / 2] : words.word[r / 2] >> 16);
    }
}
template <int kBytes>
MIXSOLVE_DEVICE void unpack(const Words<kBytes>& words, UInt8 (&losses)[kBytes]) {
#pragma unroll
    for (int r = 0; r < kBytes; ++r) losses[r].bits = static_cast<uint8_t>(words.word[r / 4] >> 8 * (r % 4));
}
template <int kBytes>
MIXSOLVE_DEVICE void unpack(const Words<kBytes>& words, BFloat16 (&losses)[kBytes / 2]) {
#pragma unroll
    for (int r = 0; r < kBytes / 2; ++r) {
        losses[r].bits = static_cast<uint16_t>(r % 2 == 0 ? words.word[r / 2] : words.word[r / 2] >> 16);
    }
}

MIXSOLVE_DEVICE Words<16> pack(const float (&losses)[4]) {
    Words<16> words;
#pragma unroll
    for (int r = 0; r < 4; ++r) words.word[r] = float_to_bits(losses[r]);
    return words;
}
MIXSOLVE_DEVICE Words<16> pack(const double (&losses)[2]) {
    Words<16> words;
#pragma unroll
    for (int r = 0; r < 2; ++r) double_to_bits(losses[r], words.word[2 * r], words.word[2 * r + 1]);
    return words;
}
// Of losses of 16 bits or 8.
template <class Stored, int kRows>
MIXSOLVE_DEVICE Words<kRows* static_cast<int>(sizeof(Stored))> pack(const Stored (&losses)[kRows]) {
    constexpr int kBits = 8 * sizeof(Stored), kInWord = 32 / kBits;
    Words<kRows* static_cast<int>(sizeof(Stored))> words;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const uint32_t bits = static_cast<uint32_t>(losses[r].bits) << kBits * (r % kInWord);
        words.word[r / kInWord] = r % kInWord == 0 ? bits : words.word[r / kInWord] | bits;
    }
    return words;
}

// 16 bytes at a time at most.
template <class Number, int kNumbers>
struct alignas(sizeof(Number) * kNumbers < 16 ? sizeof(Number) * kNumbers : 16) Numbers {
    Number number[kNumbers];
};

}  // namespace cuda
}  // namespace mixsolve
