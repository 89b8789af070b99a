#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace mixsolve {
namespace {

using KernelOf = const Kernel* (*)(Storage, bool);
using LossGradientOf = LossGradientKernel (*)(Storage, bool);

struct Isa {
    const char* name;
    KernelOf kernel;
    Reader read;
    LossGradientOf loss_gradient;
};

const std::vector<Isa>& isas() {
    static const std::vector<Isa> found = [] {
        std::vector<Isa> list{{"baseline", baseline::kernel, baseline::read, baseline::loss_gradient_kernel}};
#if defined(MIXSOLVE_HAVE_X86_KERNELS)
        __builtin_cpu_init();
        const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                              __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
        if (has_avx2) list.push_back({"avx2", avx2::kernel, avx2::read, avx2::loss_gradient_kernel});
        if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
            list.push_back({"avx512", avx512::kernel, avx512::read, avx512::loss_gradient_kernel});
        }
#endif
        return list;
    }();
    return found;
}

const Isa* find_isa(const std::string& name) {
    for (const Isa& isa : isas()) {
        if (name == isa.name) return &isa;
    }
    return nullptr;
}

std::atomic<const Isa*>& chosen() {
    static std::atomic<const Isa*> isa{[] {
        const char* name = std::getenv("MIXSOLVE_ISA");
        const Isa* wanted = name ? find_isa(name) : nullptr;
        return wanted ? wanted : &isas().back();
    }()};
    return isa;
}

}  // namespace

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Isa& isa : isas()) names.emplace_back(isa.name);
    return names;
}

std::string current_isa() { return chosen().load()->name; }

void set_isa(const std::string& name) {
    const Isa* isa = find_isa(name);
    if (isa == nullptr) throw std::invalid_argument("this processor has no instruction set `" + name + "`");
    chosen().store(isa);
}

const Kernel& cpu_kernel(Storage storage, bool float64_scores) {
    const Kernel* kernel = chosen().load()->kernel(storage, float64_scores);
    if (kernel == nullptr) throw std::invalid_argument("unknown storage type");
    return *kernel;
}

LossGradientKernel cpu_loss_gradient_kernel(Storage storage, bool float64_scores) {
    const LossGradientKernel kernel = chosen().load()->loss_gradient(storage, float64_scores);
    if (kernel == nullptr) throw std::invalid_argument("unknown storage type");
    return kernel;
}

Reader cpu_reader() { return chosen().load()->read; }

}  // namespace mixsolve
