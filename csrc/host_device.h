// Marks what CPU and GPU compile from the same source.
#pragma once

#if defined(__CUDACC__)
#define MIXSOLVE_HOST_DEVICE __host__ __device__
#else
#define MIXSOLVE_HOST_DEVICE
#endif
