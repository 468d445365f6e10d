// Which vector instructions the kernels may use, decided once at run time.

#ifndef TDDFA_NATIVE_INSTRUCTIONS_H_
#define TDDFA_NATIVE_INSTRUCTIONS_H_

// TDDFA_PORTABLE builds what other processors than x86-64 get, for the tests.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(TDDFA_PORTABLE)
#define TDDFA_X86 1
#include <immintrin.h>
#define TDDFA_AVX2 __attribute__((target("avx2")))
#define TDDFA_AVX512 \
    __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,prefer-vector-width=512")))
#endif

// A body that is inlined into one function for each instruction set, and vectorised there.
#if defined(__GNUC__)
#define TDDFA_INLINE static inline __attribute__((always_inline))
#else
#define TDDFA_INLINE static inline
#endif

namespace tddfa {

enum Instructions { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

Instructions instructions();

}  // namespace tddfa

#endif  // TDDFA_NATIVE_INSTRUCTIONS_H_
