// Vertices of a linear face model under an affine camera: camera * (mean + S a + E b).
//
// The work is bound by memory: 38,365 vertices x 3 x 50 components are 23 MB in float. So the bases
// are kept as 16-bit fixed point, one scale a component, which halves the stream at an error below
// 1/65,000 of a component's largest displacement. They are stored in blocks of 32 vertices, so that
// one sequential sweep yields finished vertices: a block's sums stay in registers over all its
// components, then meet the camera and are written out interleaved. Several faces share a sweep, as
// a block of all components (10 kB) stays in the first-level cache.
//
// Two vertices share a 32-bit word, so that no lanes need to be moved to widen them. The word,
// shifted left by 16, is the second one's value times 65,536. The word as it stands is the first
// one's value times 65,536: whoever packs it rounds the upper half so that the lower one, seen as
// its fraction, is accounted for. One shift, two conversions and two multiply-adds do for both.
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

constexpr std::ptrdiff_t kRow = 3 * kBlock;    // values of the mean in a block
constexpr std::ptrdiff_t kWords = 3 * kPairs;  // words of one component in a block
constexpr std::ptrdiff_t kAhead = 2048;        // bytes; about the latency of memory at full speed

template <int W>
struct Lanes {
  typedef float Float __attribute__((vector_size(W * 4)));
  typedef std::int32_t Int __attribute__((vector_size(W * 4)));
};

// Adds components to the sums of G * W words from `column` on, which stay in registers.
template <int W, int G>
struct Columns {
  using Float = typename Lanes<W>::Float;

  Float first[G];
  Float second[G];

  static TDDFA_INLINE std::ptrdiff_t place(std::ptrdiff_t column) {
    return column / kPairs * kBlock + column % kPairs;
  }

  TDDFA_INLINE void load(const float *from, std::ptrdiff_t column) {
#pragma GCC unroll 12
    for (int g = 0; g < G; ++g) {
      const float *source = from + place(column + g * W);
      std::memcpy(&first[g], source, sizeof(Float));
      std::memcpy(&second[g], source + kPairs, sizeof(Float));
    }
  }

  TDDFA_INLINE void store(float *to, std::ptrdiff_t column) const {
#pragma GCC unroll 12
    for (int g = 0; g < G; ++g) {
      float *target = to + place(column + g * W);
      std::memcpy(target, &first[g], sizeof(Float));
      std::memcpy(target + kPairs, &second[g], sizeof(Float));
    }
  }

  TDDFA_INLINE void add(const std::int32_t *basis, std::ptrdiff_t components,
                        const float *coefficients) {
    for (std::ptrdiff_t c = 0; c < components; ++c, basis += kWords) {
#pragma GCC unroll 3
      for (std::ptrdiff_t line = 0; line < G * W; line += 16) {
        __builtin_prefetch(reinterpret_cast<const char *>(basis + line) + kAhead);
      }
      const float coefficient = coefficients[c];
#pragma GCC unroll 12
      for (int g = 0; g < G; ++g) {
        typename Lanes<W>::Int words;
        std::memcpy(&words, basis + g * W, sizeof(words));
        first[g] += __builtin_convertvector(words, typename Lanes<W>::Float) * coefficient;
        second[g] += __builtin_convertvector(words << 16, typename Lanes<W>::Float) * coefficient;
      }
    }
  }
};

// sums = base + shape part + expression part, of one block.
template <int W, int G>
TDDFA_INLINE void add_block(const float *base, const std::int32_t *shape_basis,
                            std::ptrdiff_t shapes, const float *shape,
                            const std::int32_t *expression_basis, std::ptrdiff_t expressions,
                            const float *expression, float *sums) {
  static_assert(kPairs % W == 0 && kWords % (W * G) == 0, "columns fill a block");
#pragma GCC unroll 1
  for (std::ptrdiff_t column = 0; column < kWords; column += W * G) {
    Columns<W, G> columns;
    columns.load(base, column);
    columns.add(shape_basis + column, shapes, shape);
    columns.add(expression_basis + column, expressions, expression);
    columns.store(sums, column);
  }
}

template <int W>
TDDFA_INLINE void project(const float *sums, const float *camera, float *placed) {
  using Float = typename Lanes<W>::Float;
#pragma GCC unroll 1
  for (int i = 0; i < kBlock; i += W) {
    Float xyz[3];
    for (int k = 0; k < 3; ++k) std::memcpy(&xyz[k], sums + k * kBlock + i, sizeof(Float));
    for (int row = 0; row < 3; ++row) {
      const float *m = camera + 4 * row;
      const Float v = xyz[0] * m[0] + xyz[1] * m[1] + xyz[2] * m[2] + m[3];
      std::memcpy(placed + row * kBlock + i, &v, sizeof(Float));
    }
  }
}

// Returns the lesser of `min_z` and the least z written.
TDDFA_INLINE float write_interleaved(const float *placed, std::ptrdiff_t count, float min_z,
                                     float *out) {
  const float *x = placed, *y = placed + kBlock, *z = placed + 2 * kBlock;
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    out[3 * i] = x[i];
    out[3 * i + 1] = y[i];
    out[3 * i + 2] = z[i];
  }
  for (std::ptrdiff_t i = 0; i < count; ++i) min_z = z[i] < min_z ? z[i] : min_z;
  return min_z;
}

template <int W, int G>
TDDFA_INLINE void reconstruct(const PackedModel &model, FaceJob *jobs, std::ptrdiff_t faces,
                              bool held, bool z_from_zero) {
  const std::ptrdiff_t blocks = (model.vertices + kBlock - 1) / kBlock;
  const std::ptrdiff_t shapes = held ? 0 : model.shapes;
  for (std::ptrdiff_t f = 0; f < faces; ++f) jobs[f].min_z = __builtin_inff();
  for (std::ptrdiff_t b = 0; b < blocks; ++b) {
    const std::int32_t *shape_basis = model.shape_basis + b * model.shapes * kWords;
    const std::int32_t *expression_basis = model.expression_basis + b * model.expressions * kWords;
    const std::ptrdiff_t left = model.vertices - b * kBlock;
    for (std::ptrdiff_t f = 0; f < faces; ++f) {
      FaceJob &job = jobs[f];
      alignas(64) float sums[kRow];
      alignas(64) float placed[kRow];
      add_block<W, G>(job.base + b * kRow, shape_basis, shapes, job.shape, expression_basis,
                      model.expressions, job.expression, sums);
      project<W>(sums, job.camera, placed);
      float *out = job.out + 3 * b * kBlock;
      job.min_z = left >= kBlock ? write_interleaved(placed, kBlock, job.min_z, out)
                                 : write_interleaved(placed, left, job.min_z, out);
    }
  }
  if (!z_from_zero) return;
  for (std::ptrdiff_t f = 0; f < faces; ++f) {
    for (std::ptrdiff_t i = 0; i < model.vertices; ++i) jobs[f].out[3 * i + 2] -= jobs[f].min_z;
  }
}

template <int W, int G>
TDDFA_INLINE void hold(const PackedModel &model, const float *base, const float *shape,
                       float *out) {
  const std::ptrdiff_t blocks = (model.vertices + kBlock - 1) / kBlock;
  for (std::ptrdiff_t b = 0; b < blocks; ++b) {
    add_block<W, G>(base + b * kRow, model.shape_basis + b * model.shapes * kWords, model.shapes,
                    shape, nullptr, 0, nullptr, out + b * kRow);
  }
}

#define TDDFA_INSTANCE(suffix, width, columns, attribute)                                     \
  attribute void reconstruct_##suffix(const PackedModel &model, FaceJob *jobs,                \
                                      std::ptrdiff_t faces, bool held, bool z_from_zero) {    \
    reconstruct<width, columns>(model, jobs, faces, held, z_from_zero);                       \
  }                                                                                           \
  attribute void hold_##suffix(const PackedModel &model, const float *base,                   \
                               const float *shape, float *out) {                              \
    hold<width, columns>(model, base, shape, out);                                            \
  }

TDDFA_INSTANCE(portable, 4, 4, )
#ifdef TDDFA_X86
TDDFA_INSTANCE(avx2, 8, 6, __attribute__((target("avx2,fma"))))
TDDFA_INSTANCE(avx512, 16, 3, __attribute__((target("avx512f,fma"))))
#endif

struct Dispatch {
  Kernel list[3];
  int count = 0;

  Dispatch() {
#ifdef TDDFA_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma")) {
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
