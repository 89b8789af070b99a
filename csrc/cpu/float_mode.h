// The floating-point mode of a thread at work for a pass.
#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace mixsolve {

// IEEE arithmetic while it lives: a thread of the user's may flush subnormal numbers to zero, which are losses like any
// others in float16, and every thread must compute the same.
class IeeeArithmetic {
#if defined(__SSE__)
  public:
    IeeeArithmetic() : saved_(_mm_getcsr()) { _mm_setcsr(kMaskedRoundToNearest); }
    ~IeeeArithmetic() { _mm_setcsr(saved_); }
    IeeeArithmetic(const IeeeArithmetic&) = delete;
    IeeeArithmetic& operator=(const IeeeArithmetic&) = delete;

  private:
    static constexpr unsigned kMaskedRoundToNearest = 0x1f80;
    unsigned saved_;
#endif
};

}  // namespace mixsolve
