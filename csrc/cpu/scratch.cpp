#include "scratch.h"

#include <pthread.h>

#include <memory>
#include <new>

namespace mixsolve {
namespace {

pthread_key_t make_key() {
    pthread_key_t key;
    if (pthread_key_create(&key, [](void* scratch) { delete static_cast<Scratch*>(scratch); }) != 0) {
        throw std::bad_alloc();
    }
    return key;
}

}  // namespace

// No thread_local, whose destructor is registered in memory that may have run out: that would end the process.
Scratch& thread_scratch() {
    static const pthread_key_t key = make_key();
    auto* held = static_cast<Scratch*>(pthread_getspecific(key));
    if (held) return *held;
    auto fresh = std::make_unique<Scratch>();
    if (pthread_setspecific(key, fresh.get()) != 0) throw std::bad_alloc();
    return *fresh.release();
}

}  // namespace mixsolve
