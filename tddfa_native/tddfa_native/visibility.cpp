// The visibility pass: which triangle is nearest at each pixel centre, and with which weights.
//
// Exactness. x and y are rounded to multiples of 2^-16 px (float32 cannot do better beyond 128 px).
// Relative to a pixel centre less than 1024 px away they are 26-bit integers, so an edge function,
// the difference of two products, is exact in double precision. Larger triangles take a path with
// error-free products. Signs are therefore always right, and with the top-left rule each pixel
// centre of a closed surface patch belongs to exactly one triangle.
//
// Speed. A face has about one pixel for two triangles. With c = ceil(coordinate), clamped to the
// image, a triangle holds pixel columns min(c) to max(c) - 1 because the top-left rule excludes its
// right and lower bounds. So it holds no pixel centre if its three c agree in x or in y: exclusive
// ors of one packed word a vertex, 8 or 16 triangles at a time.

#include "raster.h"

#include <cmath>
#include <limits>

#if defined(__x86_64__) && defined(__GNUC__)
#define TDDFA_X86 1
#include <immintrin.h>
#endif

#if defined(__GNUC__)
#define TDDFA_INLINE static inline __attribute__((always_inline))
#else
#define TDDFA_INLINE static inline
#endif

namespace tddfa {
namespace {

constexpr float kFarthest = 1073741824.0f;            // 2^30 px: further out is not drawable
constexpr double kGridMagic = 1.5 * 68719476736.0;    // 1.5 * 2^36: its last bit is worth 2^-16
constexpr float kExactExtent = 1000.0f;               // px, below the 1024 of the proof above

enum Instructions { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

Instructions detect_instructions() {
#ifdef TDDFA_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return kAvx512;
    if (__builtin_cpu_supports("avx2")) return kAvx2;
#endif
    return kPortable;
}

Instructions g_instructions = detect_instructions();

// ---- vertices

TDDFA_INLINE int32_t clamped_ceil(float value, float limit) {
    float v = value > 0.0f ? value : 0.0f;  // NaN too becomes 0
    v = v < limit ? v : limit;
    const int32_t whole = static_cast<int32_t>(v);
    return whole + (static_cast<float>(whole) < v);
}

TDDFA_INLINE float on_grid(float value) {
    return static_cast<float>((static_cast<double>(value) + kGridMagic) - kGridMagic);
}

TDDFA_INLINE Window prepare_body(const float* vertices, int32_t count, int32_t width,
                                 int32_t height, Corner* corners, uint32_t* cells) {
    const float w = static_cast<float>(width);
    const float h = static_cast<float>(height);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    int32_t x0 = width, y0 = height, x1 = 0, y1 = 0;
    for (int32_t i = 0; i < count; ++i) {
        const float x = vertices[3 * i];
        const float y = vertices[3 * i + 1];
        const float z = vertices[3 * i + 2];
        const bool drawable = (std::fabs(x) <= kFarthest) & (std::fabs(y) <= kFarthest) &
                              (std::fabs(z) <= std::numeric_limits<float>::max());
        const float sx = drawable ? on_grid(x) : nan;
        const float sy = drawable ? on_grid(y) : nan;
        corners[i] = Corner{sx, sy, drawable ? z : nan, 0.0f};
        const int32_t cx = clamped_ceil(sx, w);
        const int32_t cy = clamped_ceil(sy, h);
        cells[i] = static_cast<uint32_t>(cx) | (static_cast<uint32_t>(cy) << 16);
        x0 = cx < x0 ? cx : x0;
        y0 = cy < y0 ? cy : y0;
        x1 = cx > x1 ? cx : x1;
        y1 = cy > y1 ? cy : y1;
    }
    return Window{x0, y0, x1 > x0 ? x1 : x0, y1 > y0 ? y1 : y0};
}

#ifdef TDDFA_X86
__attribute__((target("avx2"))) Window prepare_avx2(const float* vertices, int32_t count,
                                                    int32_t width, int32_t height, Corner* corners,
                                                    uint32_t* cells) {
    return prepare_body(vertices, count, width, height, corners, cells);
}
#endif

// ---- rejection: indices of the triangles whose corners differ in column and in row

TDDFA_INLINE bool may_hold_centre(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t differs = (a ^ b) | (a ^ c);
    return (differs & 0xffffu) != 0 && (differs >> 16) != 0;
}

int32_t find_candidates(const uint32_t* cells, const int32_t* t0, const int32_t* t1,
                        const int32_t* t2, int32_t begin, int32_t end, int32_t* out) {
    int32_t found = 0;
    for (int32_t i = begin; i < end; ++i) {
        out[found] = i;
        found += may_hold_centre(cells[t0[i]], cells[t1[i]], cells[t2[i]]);
    }
    return found;
}

#ifdef TDDFA_X86
__attribute__((target("avx2"))) int32_t find_candidates_avx2(const uint32_t* cells,
                                                             const int32_t* t0, const int32_t* t1,
                                                             const int32_t* t2, int32_t count,
                                                             int32_t* out) {
    const int* base = reinterpret_cast<const int*>(cells);
    const __m256i low = _mm256_set1_epi32(0xffff);
    const __m256i zero = _mm256_setzero_si256();
    int32_t found = 0;
    int32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256i i0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t0 + i));
        const __m256i i1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t1 + i));
        const __m256i i2 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t2 + i));
        const __m256i a = _mm256_i32gather_epi32(base, i0, 4);
        const __m256i b = _mm256_i32gather_epi32(base, i1, 4);
        const __m256i c = _mm256_i32gather_epi32(base, i2, 4);
        const __m256i differs = _mm256_or_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(a, c));
        const __m256i same_x = _mm256_cmpeq_epi32(_mm256_and_si256(differs, low), zero);
        const __m256i same_y = _mm256_cmpeq_epi32(_mm256_srli_epi32(differs, 16), zero);
        const __m256i rejected = _mm256_or_si256(same_x, same_y);
        uint32_t kept = ~_mm256_movemask_ps(_mm256_castsi256_ps(rejected)) & 0xffu;
        while (kept) {
            out[found++] = i + __builtin_ctz(kept);
            kept &= kept - 1;
        }
    }
    return found + find_candidates(cells, t0, t1, t2, i, count, out + found);
}

__attribute__((target("avx512f,avx512vl"))) int32_t find_candidates_avx512(
    const uint32_t* cells, const int32_t* t0, const int32_t* t1, const int32_t* t2, int32_t count,
    int32_t* out) {
    const __m512i low = _mm512_set1_epi32(0xffff);
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    const __m512i lanes =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int32_t found = 0;
    int32_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m512i a = _mm512_i32gather_epi32(_mm512_loadu_si512(t0 + i), cells, 4);
        const __m512i b = _mm512_i32gather_epi32(_mm512_loadu_si512(t1 + i), cells, 4);
        const __m512i c = _mm512_i32gather_epi32(_mm512_loadu_si512(t2 + i), cells, 4);
        const __m512i differs = _mm512_or_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(a, c));
        const __mmask16 kept =
            _mm512_mask_test_epi32_mask(_mm512_test_epi32_mask(differs, low), differs, high);
        // Compress in registers: the store form is microcoded on some processors.
        _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi32(
                                             kept, _mm512_add_epi32(lanes, _mm512_set1_epi32(i))));
        found += __builtin_popcount(kept);
    }
    return found + find_candidates(cells, t0, t1, t2, i, count, out + found);
}
#endif

// ---- triangles

// a * b - c * d with an error below one unit in the last place and the right sign (Kahan).
TDDFA_INLINE double product_difference(double a, double b, double c, double d) {
    const double p = a * b;
    const double q = c * d;
    return (p - q) + (std::fma(a, b, -p) - std::fma(c, d, -q));
}

struct Edge {
    double at_start, per_column, per_row;
    bool inclusive;
};

// Edge from p to q of a triangle with positive area in y-down coordinates, seen from pixel (x, y).
TDDFA_INLINE Edge make_edge(const Corner& p, const Corner& q, double x, double y) {
    const double px = p.x - x, py = p.y - y, qx = q.x - x, qy = q.y - y;
    return Edge{px * qy - py * qx, py - qy, qx - px,
                q.y < p.y || (q.y == p.y && q.x > p.x)};
}

TDDFA_INLINE bool inside(double value, bool inclusive) {
    return value > 0.0 || (value == 0.0 && inclusive);
}

struct Target {
    Pixel* pixels;
    int16_t* faces;
    int32_t width;
    int16_t face;
};

TDDFA_INLINE void put(const Target& target, int64_t at, int32_t triangle, double weight1,
                      double weight2, double depth) {
    Pixel& pixel = target.pixels[at];
    const float z = static_cast<float>(depth);
    if (z > pixel.depth) {
        pixel = Pixel{z, triangle, static_cast<float>(weight1), static_cast<float>(weight2)};
        target.faces[at] = target.face;
    }
}

// A triangle too wide for plain doubles: each edge function on its own, without rounding trouble.
void draw_wide(const Target& target, const Corner& a, const Corner& b, const Corner& c,
               const Window& box, int32_t triangle, bool swapped) {
    const bool in0 = make_edge(b, c, 0, 0).inclusive;
    const bool in1 = make_edge(c, a, 0, 0).inclusive;
    const bool in2 = make_edge(a, b, 0, 0).inclusive;
    for (int32_t y = box.y0; y < box.y1; ++y) {
        for (int32_t x = box.x0; x < box.x1; ++x) {
            const double ax = double(a.x) - x, ay = double(a.y) - y;
            const double bx = double(b.x) - x, by = double(b.y) - y;
            const double cx = double(c.x) - x, cy = double(c.y) - y;
            const double e0 = product_difference(bx, cy, by, cx);
            const double e1 = product_difference(cx, ay, cy, ax);
            const double e2 = product_difference(ax, by, ay, bx);
            if (!(inside(e0, in0) && inside(e1, in1) && inside(e2, in2))) continue;
            const double scale = 1.0 / (e0 + e1 + e2);
            const double w1 = e1 * scale, w2 = e2 * scale;
            const double z = a.z + w1 * (double(b.z) - a.z) + w2 * (double(c.z) - a.z);
            put(target, int64_t(y) * target.width + x, triangle, swapped ? w2 : w1,
                swapped ? w1 : w2, z);
        }
    }
}

TDDFA_INLINE int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
TDDFA_INLINE int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }
TDDFA_INLINE float spread(float a, float b, float c) {
    const float low = a < b ? a : b, high = a < b ? b : a;
    return (high > c ? high : c) - (low < c ? low : c);
}

TDDFA_INLINE void draw_triangle(const Target& target, const Corner& a, const Corner& b0,
                                const Corner& c0, uint32_t ca, uint32_t cb, uint32_t cc,
                                int32_t triangle, bool cull_back) {
    double area = product_difference(double(b0.x) - a.x, double(c0.y) - a.y, double(b0.y) - a.y,
                                     double(c0.x) - a.x);
    if (!(area > 0.0 || area < 0.0)) return;  // degenerate, or a corner that is not a number
    // Counter-clockwise to the viewer is a negative area where y points down.
    const bool swapped = area < 0.0;
    if (cull_back && !swapped) return;
    const Corner& b = swapped ? c0 : b0;
    const Corner& c = swapped ? b0 : c0;
    area = std::fabs(area);

    const int32_t xa = ca & 0xffff, xb = cb & 0xffff, xc = cc & 0xffff;
    const int32_t ya = ca >> 16, yb = cb >> 16, yc = cc >> 16;
    const Window box{least(xa, least(xb, xc)), least(ya, least(yb, yc)), most(xa, most(xb, xc)),
                     most(ya, most(yb, yc))};
    if (!(spread(a.x, b.x, c.x) < kExactExtent && spread(a.y, b.y, c.y) < kExactExtent)) {
        draw_wide(target, a, b, c, box, triangle, swapped);
        return;
    }
    const Edge edge0 = make_edge(b, c, box.x0, box.y0);
    const Edge edge1 = make_edge(c, a, box.x0, box.y0);
    const Edge edge2 = make_edge(a, b, box.x0, box.y0);
    const double scale = 1.0 / area;
    const double z1 = double(b.z) - a.z, z2 = double(c.z) - a.z;
    double row0 = edge0.at_start, row1 = edge1.at_start, row2 = edge2.at_start;
    for (int32_t y = box.y0; y < box.y1; ++y) {
        double e0 = row0, e1 = row1, e2 = row2;
        int64_t at = int64_t(y) * target.width + box.x0;
        for (int32_t x = box.x0; x < box.x1; ++x, ++at) {
            if (inside(e0, edge0.inclusive) && inside(e1, edge1.inclusive) &&
                inside(e2, edge2.inclusive)) {
                const double w1 = e1 * scale, w2 = e2 * scale;
                put(target, at, triangle, swapped ? w2 : w1, swapped ? w1 : w2,
                    a.z + w1 * z1 + w2 * z2);
            }
            e0 += edge0.per_column;
            e1 += edge1.per_column;
            e2 += edge2.per_column;
        }
        row0 += edge0.per_row;
        row1 += edge1.per_row;
        row2 += edge2.per_row;
    }
}

}  // namespace

int32_t select_instructions(int32_t most_allowed) {
    const Instructions best = detect_instructions();
    g_instructions = most_allowed < best ? static_cast<Instructions>(most_allowed) : best;
    return g_instructions;
}

Window prepare_vertices(const float* vertices, int32_t vertex_count, int32_t width, int32_t height,
                        Corner* corners, uint32_t* cells) {
#ifdef TDDFA_X86
    if (g_instructions >= kAvx2) {
        return prepare_avx2(vertices, vertex_count, width, height, corners, cells);
    }
#endif
    return prepare_body(vertices, vertex_count, width, height, corners, cells);
}

int32_t draw_mesh(const Corner* corners, const uint32_t* cells, const int32_t* columns,
                  int32_t triangle_count, int32_t* candidates, int16_t face, bool cull_back,
                  Pixel* pixels, int16_t* faces, int32_t width) {
    const int32_t* t0 = columns;
    const int32_t* t1 = columns + triangle_count;
    const int32_t* t2 = columns + 2 * int64_t(triangle_count);
    int32_t found;
    switch (g_instructions) {
#ifdef TDDFA_X86
        case kAvx512:
            found = find_candidates_avx512(cells, t0, t1, t2, triangle_count, candidates);
            break;
        case kAvx2:
            found = find_candidates_avx2(cells, t0, t1, t2, triangle_count, candidates);
            break;
#endif
        default:
            found = find_candidates(cells, t0, t1, t2, 0, triangle_count, candidates);
    }
    const Target target{pixels, faces, width, face};
    for (int32_t k = 0; k < found; ++k) {
        const int32_t i = candidates[k];
        const int32_t a = t0[i], b = t1[i], c = t2[i];
        draw_triangle(target, corners[a], corners[b], corners[c], cells[a], cells[b], cells[c], i,
                      cull_back);
    }
    return found;
}

void clear_window(Pixel* pixels, int16_t* faces, int32_t width, Window window) {
    const Pixel empty{-std::numeric_limits<float>::infinity(), -1, 0.0f, 0.0f};
    for (int32_t y = window.y0; y < window.y1; ++y) {
        const int64_t row = int64_t(y) * width;
        for (int64_t at = row + window.x0; at < row + window.x1; ++at) pixels[at] = empty;
        for (int64_t at = row + window.x0; at < row + window.x1; ++at) faces[at] = -1;
    }
}

}  // namespace tddfa
