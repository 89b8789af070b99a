// Which instruction set the CPU pass runs on: the best the processor has, or the one the user names.
#pragma once

#include <string>
#include <vector>

#include "kernel.h"
#include "loss_gradient.h"

namespace mixsolve {

std::vector<std::string> available_isas();  // best last
std::string current_isa();
void set_isa(const std::string& name);  // throws std::invalid_argument
const Kernel& cpu_kernel(Storage storage, bool float64_scores);
LossGradientKernel cpu_loss_gradient_kernel(Storage storage, bool float64_scores);

using Reader = uint64_t (*)(const char* data, int64_t bytes, bool prefetch_ahead);
Reader cpu_reader();

}  // namespace mixsolve
