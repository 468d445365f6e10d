// Dense reconstruction of morphable model faces; see reconstruct_kernel.cpp for how it works.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tddfa {

constexpr int kBlock = 32;           // vertices of one block of the packed layout
constexpr int kPairs = kBlock / 2;   // words of one coordinate in a block of a basis

// A mean or a held shape is packed as [block][x y z][kBlock] float, a basis as
// [block][component][x y z][kPairs] int32, each word with two vertices: see reconstruct_kernel.cpp.
// Places after the last vertex repeat that vertex.
struct PackedModel {
  const std::int32_t *shape_basis;
  const std::int32_t *expression_basis;
  std::ptrdiff_t shapes;
  std::ptrdiff_t expressions;
  std::ptrdiff_t vertices;
};

struct FaceJob {
  const float *base;          // packed mean, or packed held shape
  const float *shape;         // coefficients times component scale; unused if the shape is held
  const float *expression;    // coefficients times component scale
  const float *camera;        // 12 floats, row-major 3x4
  float *out;                 // vertices x 3
  float min_z;                // result
};

// Every face of `jobs` in one pass over the basis; `held`: the bases already hold the shape;
// `z_from_zero`: subtract each face's least z afterwards.
using ReconstructFn = void (*)(const PackedModel &, FaceJob *jobs, std::ptrdiff_t faces, bool held,
                               bool z_from_zero);
// out (packed) = base + shape part.
using HoldFn = void (*)(const PackedModel &, const float *base, const float *shape, float *out);

struct Kernel {
  const char *name;
  ReconstructFn reconstruct;
  HoldFn hold;
};

// The kernels that this processor runs, fastest first; the last one is portable.
const Kernel *kernels(int *count);

}  // namespace tddfa
