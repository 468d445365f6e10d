// Vertices of a linear face model under an affine camera: camera * (mean + S a + E b).
//
// The work is bound by memory: 38,365 vertices x 3 x 50 components are 23 MB in float. So the bases
// are kept as 16-bit fixed point, one scale a component, which halves the stream at an error below
// 1/65,000 of a component's largest displacement. They are stored in blocks of 16 vertices, so that
// one sequential sweep yields finished vertices: a block's sums stay in registers over all its
// components, then meet the camera and are written out interleaved. Several faces share a sweep, as
// a block of all components (5 kB) stays in the first-level cache.
//
// One template is instantiated per instruction set through GCC's vector extensions and chosen at
// run time; the narrow instance is the portable one (SSE2, NEON or plain scalar code).

#include "reconstruct_kernel.h"

#include <cstring>

#if defined(__x86_64__) || defined(__i386__)
#define TDDFA_X86 1
#endif

#define TDDFA_INLINE inline __attribute__((always_inline))

namespace tddfa {
namespace {

template <int W>
struct Lanes {
  typedef float Float __attribute__((vector_size(W * 4)));
  typedef std::int32_t Int __attribute__((vector_size(W * 4)));
  typedef std::int16_t Short __attribute__((vector_size(W * 2)));
};

constexpr std::ptrdiff_t kRow = 3 * kBlock;  // values of one component, or the mean, in a block
constexpr std::ptrdiff_t kAhead = 2048;      // bytes; about the latency of memory at full speed

template <int W>
struct Sums {
  typename Lanes<W>::Float v[kRow / W];
};

template <int W>
TDDFA_INLINE void load_sums(const float *from, Sums<W> &sums) {
  std::memcpy(&sums, from, sizeof(sums));
}

template <int W>
TDDFA_INLINE void add_components(const std::int16_t *basis, std::ptrdiff_t components,
                                 const float *coefficients, Sums<W> &sums) {
  for (std::ptrdiff_t c = 0; c < components; ++c, basis += kRow) {
    __builtin_prefetch(reinterpret_cast<const char *>(basis) + kAhead);
    __builtin_prefetch(reinterpret_cast<const char *>(basis) + kAhead + 64);
    const float coefficient = coefficients[c];
#pragma GCC unroll 12
    for (int k = 0; k < kRow / W; ++k) {
      typename Lanes<W>::Short narrow;
      std::memcpy(&narrow, basis + k * W, sizeof(narrow));
      const auto wide = __builtin_convertvector(narrow, typename Lanes<W>::Int);
      sums.v[k] += __builtin_convertvector(wide, typename Lanes<W>::Float) * coefficient;
    }
  }
}

template <int W>
TDDFA_INLINE void project(const Sums<W> &sums, const float *camera, float *placed) {
  constexpr int parts = kBlock / W;
#pragma GCC unroll 12
  for (int row = 0; row < 3; ++row) {
    const float *m = camera + 4 * row;
#pragma GCC unroll 12
    for (int p = 0; p < parts; ++p) {
      const typename Lanes<W>::Float v = sums.v[p] * m[0] + sums.v[parts + p] * m[1] +
                                         sums.v[2 * parts + p] * m[2] + m[3];
      std::memcpy(placed + row * kBlock + p * W, &v, sizeof(v));
    }
  }
}

template <int W>
TDDFA_INLINE void reconstruct(const PackedModel &model, FaceJob *jobs, std::ptrdiff_t faces,
                              bool held, bool z_from_zero) {
  const std::ptrdiff_t blocks = (model.vertices + kBlock - 1) / kBlock;
  const std::ptrdiff_t shapes = held ? 0 : model.shapes;
  for (std::ptrdiff_t f = 0; f < faces; ++f) jobs[f].min_z = __builtin_inff();
  for (std::ptrdiff_t b = 0; b < blocks; ++b) {
    const std::int16_t *shape_basis = model.shape_basis + b * model.shapes * kRow;
    const std::int16_t *expression_basis = model.expression_basis + b * model.expressions * kRow;
    for (std::ptrdiff_t f = 0; f < faces; ++f) {
      FaceJob &job = jobs[f];
      Sums<W> sums;
      load_sums(job.base + b * kRow, sums);
      add_components(shape_basis, shapes, job.shape, sums);
      add_components(expression_basis, model.expressions, job.expression, sums);
      alignas(64) float placed[kRow];
      project(sums, job.camera, placed);
      float *out = job.out + b * kRow;
      const std::ptrdiff_t left = model.vertices - b * kBlock;
      float min_z = job.min_z;
      if (left >= kBlock) {
        for (int i = 0; i < kBlock; ++i) {
          out[3 * i] = placed[i];
          out[3 * i + 1] = placed[kBlock + i];
          out[3 * i + 2] = placed[2 * kBlock + i];
        }
      } else {
        for (std::ptrdiff_t i = 0; i < left; ++i) {
          out[3 * i] = placed[i];
          out[3 * i + 1] = placed[kBlock + i];
          out[3 * i + 2] = placed[2 * kBlock + i];
        }
      }
      for (int i = 0; i < kBlock; ++i) {
        const float z = placed[2 * kBlock + i];
        min_z = z < min_z ? z : min_z;
      }
      job.min_z = min_z;
    }
  }
  if (!z_from_zero) return;
  for (std::ptrdiff_t f = 0; f < faces; ++f) {
    for (std::ptrdiff_t i = 0; i < model.vertices; ++i) jobs[f].out[3 * i + 2] -= jobs[f].min_z;
  }
}

template <int W>
TDDFA_INLINE void hold(const PackedModel &model, const float *base, const float *shape,
                       float *out) {
  const std::ptrdiff_t blocks = (model.vertices + kBlock - 1) / kBlock;
  for (std::ptrdiff_t b = 0; b < blocks; ++b) {
    Sums<W> sums;
    load_sums(base + b * kRow, sums);
    add_components(model.shape_basis + b * model.shapes * kRow, model.shapes, shape, sums);
    std::memcpy(out + b * kRow, &sums, sizeof(sums));
  }
}

#define TDDFA_INSTANCE(suffix, width, attribute)                                              \
  attribute void reconstruct_##suffix(const PackedModel &model, FaceJob *jobs,                \
                                      std::ptrdiff_t faces, bool held, bool z_from_zero) {    \
    reconstruct<width>(model, jobs, faces, held, z_from_zero);                                \
  }                                                                                           \
  attribute void hold_##suffix(const PackedModel &model, const float *base,                   \
                               const float *shape, float *out) {                              \
    hold<width>(model, base, shape, out);                                                     \
  }

TDDFA_INSTANCE(portable, 4, )
#ifdef TDDFA_X86
TDDFA_INSTANCE(avx2, 8, __attribute__((target("avx2,fma"))))
TDDFA_INSTANCE(avx512, 16, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"))))
#endif

struct Dispatch {
  Kernel list[3];
  int count = 0;

  Dispatch() {
#ifdef TDDFA_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
      list[count++] = {"avx512", reconstruct_avx512, hold_avx512};
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      list[count++] = {"avx2", reconstruct_avx2, hold_avx2};
    }
#endif
    list[count++] = {"portable", reconstruct_portable, hold_portable};
  }
};

}  // namespace

const Kernel *kernels(int *count) {
  static const Dispatch dispatch;
  *count = dispatch.count;
  return dispatch.list;
}

}  // namespace tddfa
