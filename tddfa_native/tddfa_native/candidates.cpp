// The steps before drawing: vertices onto the sub-pixel grid, rejection of triangles that hold no
// pixel centre. See visibility.cpp for the idea.

#include "raster.h"

#include <cmath>
#include <limits>

#include "instructions.h"

namespace tddfa {
namespace {

constexpr float kFarthest = 1073741824.0f;            // 2^30 px: further out is not drawable
constexpr double kGridMagic = 1.5 * 4398046511104.0;  // 1.5 * 2^42: its last bit is worth 2^-10
constexpr int32_t kBlock = 256;

Instructions detect_instructions() {
#ifdef TDDFA_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) return kAvx512;
    if (__builtin_cpu_supports("avx2")) return kAvx2;
#endif
    return kPortable;
}

Instructions g_instructions = detect_instructions();

TDDFA_INLINE int32_t clamped_ceil(float value, float limit) {
    float v = value > 0.0f ? value : 0.0f;  // NaN too becomes 0
    v = v < limit ? v : limit;
    const int32_t whole = static_cast<int32_t>(v);
    return whole + (static_cast<float>(whole) < v);
}

TDDFA_INLINE Window prepare_body(const float* vertices, int32_t count, int32_t width,
                                 int32_t height, Point* points, uint32_t* cells,
                                 Extent* extent) {
    const float w = static_cast<float>(width);
    const float h = static_cast<float>(height);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float inf = std::numeric_limits<float>::infinity();
    const float largest = std::numeric_limits<float>::max();
    float lx = inf, ly = inf, lz = inf, hx = -inf, hy = -inf, hz = -inf;
    int32_t x0 = width, y0 = height, x1 = 0, y1 = 0;
    float x[kBlock], y[kBlock], z[kBlock], sx[kBlock], sy[kBlock];
    for (int32_t begin = 0; begin < count; begin += kBlock) {
        const int32_t n = count - begin < kBlock ? count - begin : kBlock;
        const float* from = vertices + 3 * int64_t(begin);
        for (int32_t i = 0; i < n; ++i) {
            x[i] = from[3 * i];
            y[i] = from[3 * i + 1];
            z[i] = from[3 * i + 2];
        }
        for (int32_t i = 0; i < n; ++i) {
            lx = x[i] < lx ? x[i] : lx;
            ly = y[i] < ly ? y[i] : ly;
            lz = z[i] < lz ? z[i] : lz;
            hx = x[i] > hx ? x[i] : hx;
            hy = y[i] > hy ? y[i] : hy;
            hz = z[i] > hz ? z[i] : hz;
        }
        for (int32_t i = 0; i < n; ++i) {
            sx[i] = static_cast<float>((double(x[i]) + kGridMagic) - kGridMagic);
            sy[i] = static_cast<float>((double(y[i]) + kGridMagic) - kGridMagic);
        }
        for (int32_t i = 0; i < n; ++i) {
            const int32_t drawable = int32_t(std::fabs(x[i]) <= kFarthest) &
                                     int32_t(std::fabs(y[i]) <= kFarthest) &
                                     int32_t(std::fabs(z[i]) <= largest);
            const float spoiler = drawable ? 0.0f : nan;
            x[i] = sx[i] + spoiler;
            y[i] = sy[i] + spoiler;
        }
        for (int32_t i = 0; i < n; ++i) {
            const int32_t cx = clamped_ceil(x[i], w);
            const int32_t cy = clamped_ceil(y[i], h);
            cells[begin + i] = static_cast<uint32_t>(cx) | (static_cast<uint32_t>(cy) << 16);
            x0 = cx < x0 ? cx : x0;
            y0 = cy < y0 ? cy : y0;
            x1 = cx > x1 ? cx : x1;
            y1 = cy > y1 ? cy : y1;
        }
        for (int32_t i = 0; i < n; ++i) points[begin + i] = Point{x[i], y[i]};
    }
    *extent = Extent{{lx, ly, lz}, {hx, hy, hz}};
    return Window{x0, y0, x1 > x0 ? x1 : x0, y1 > y0 ? y1 : y0};
}

#ifdef TDDFA_X86
TDDFA_AVX2 Window prepare_avx2(const float* vertices, int32_t count, int32_t width, int32_t height,
                               Point* points, uint32_t* cells, Extent* extent) {
    return prepare_body(vertices, count, width, height, points, cells, extent);
}
#endif

// ---- rejection. A cell holds the column in its low and the row in its high half.

constexpr uint32_t kOneByOne = 0x00010001u;

TDDFA_INLINE uint32_t smaller_halves(uint32_t a, uint32_t b) {
    const uint32_t x = (a & 0xffffu) < (b & 0xffffu) ? a : b;
    const uint32_t y = (a >> 16) < (b >> 16) ? a : b;
    return (x & 0xffffu) | (y & 0xffff0000u);
}

TDDFA_INLINE uint32_t larger_halves(uint32_t a, uint32_t b) {
    const uint32_t x = (a & 0xffffu) < (b & 0xffffu) ? b : a;
    const uint32_t y = (a >> 16) < (b >> 16) ? b : a;
    return (x & 0xffffu) | (y & 0xffff0000u);
}

void sort_out_from(int32_t begin, const uint32_t* cells, const Columns& columns, int32_t count,
                   Candidates& out) {
    for (int32_t i = begin; i < count; ++i) {
        const uint32_t a = cells[columns.t0[i]], b = cells[columns.t1[i]], c = cells[columns.t2[i]];
        const uint32_t differs = (a ^ b) | (a ^ c);
        if ((differs & 0xffffu) == 0 || (differs >> 16) == 0) continue;
        const uint32_t low = smaller_halves(a, smaller_halves(b, c));
        const uint32_t one = larger_halves(a, larger_halves(b, c)) - low == kOneByOne;
        out.one_triangle[out.one_count] = i;
        out.one_pixel[out.one_count] = low;
        out.one_count += one;
        out.several_triangle[out.several_count] = i;
        out.several_count += 1 - one;
    }
}

#ifdef TDDFA_X86
// For each mask of 8 lanes, the lanes that are set, in order.
struct LaneTable {
    uint8_t lanes[256][8];
    constexpr LaneTable() : lanes() {
        for (int32_t mask = 0; mask < 256; ++mask) {
            int32_t found = 0;
            for (int32_t lane = 0; lane < 8; ++lane) {
                if (mask >> lane & 1) lanes[mask][found++] = static_cast<uint8_t>(lane);
            }
        }
    }
};
constexpr LaneTable kLaneTable;

// Store the chosen lanes side by side (8 values are written); AVX2 has no compress.
TDDFA_AVX2 inline void store_lanes(void* out, __m256i values, uint32_t mask) {
    const __m128i order =
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLaneTable.lanes[mask]));
    _mm256_storeu_si256(static_cast<__m256i*>(out),
                        _mm256_permutevar8x32_epi32(values, _mm256_cvtepu8_epi32(order)));
}

TDDFA_AVX2 void sort_out_avx2(const uint32_t* cells, const Columns& columns, int32_t count,
                              Candidates& out) {
    const int* base = reinterpret_cast<const int*>(cells);
    const __m256i low_half = _mm256_set1_epi32(0xffff);
    const __m256i zero = _mm256_setzero_si256();
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    int32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256i i0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(columns.t0 + i));
        const __m256i i1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(columns.t1 + i));
        const __m256i i2 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(columns.t2 + i));
        const __m256i a = _mm256_i32gather_epi32(base, i0, 4);
        const __m256i b = _mm256_i32gather_epi32(base, i1, 4);
        const __m256i c = _mm256_i32gather_epi32(base, i2, 4);
        const __m256i low = _mm256_min_epu16(a, _mm256_min_epu16(b, c));
        const __m256i extent = _mm256_sub_epi16(_mm256_max_epu16(a, _mm256_max_epu16(b, c)), low);
        const __m256i one = _mm256_cmpeq_epi32(extent, _mm256_set1_epi32(kOneByOne));
        const __m256i none =
            _mm256_or_si256(_mm256_cmpeq_epi32(_mm256_and_si256(extent, low_half), zero),
                            _mm256_cmpeq_epi32(_mm256_srli_epi32(extent, 16), zero));
        const uint32_t ones = _mm256_movemask_ps(_mm256_castsi256_ps(one));
        const uint32_t rest = 0xffu & ~(ones | _mm256_movemask_ps(_mm256_castsi256_ps(none)));
        const __m256i triangles = _mm256_add_epi32(lanes, _mm256_set1_epi32(i));
        store_lanes(out.one_triangle + out.one_count, triangles, ones);
        store_lanes(out.one_pixel + out.one_count, low, ones);
        store_lanes(out.several_triangle + out.several_count, triangles, rest);
        out.one_count += __builtin_popcount(ones);
        out.several_count += __builtin_popcount(rest);
    }
    sort_out_from(i, cells, columns, count, out);
}

TDDFA_AVX512 void sort_out_avx512(const uint32_t* cells, const Columns& columns, int32_t count,
                                  Candidates& out) {
    const __m512i low_half = _mm512_set1_epi32(0xffff);
    const __m512i high_half = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    const __m512i lanes =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int32_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m512i a = _mm512_i32gather_epi32(_mm512_loadu_si512(columns.t0 + i), cells, 4);
        const __m512i b = _mm512_i32gather_epi32(_mm512_loadu_si512(columns.t1 + i), cells, 4);
        const __m512i c = _mm512_i32gather_epi32(_mm512_loadu_si512(columns.t2 + i), cells, 4);
        const __m512i low = _mm512_min_epu16(a, _mm512_min_epu16(b, c));
        const __m512i extent = _mm512_sub_epi16(_mm512_max_epu16(a, _mm512_max_epu16(b, c)), low);
        const __mmask16 one = _mm512_cmpeq_epi32_mask(extent, _mm512_set1_epi32(kOneByOne));
        const __mmask16 several = _mm512_mask_test_epi32_mask(
            _mm512_mask_test_epi32_mask(_knot_mask16(one), extent, low_half), extent, high_half);
        const __m512i triangles = _mm512_add_epi32(lanes, _mm512_set1_epi32(i));
        // Compressed in registers: the form that stores is microcoded on some processors.
        _mm512_storeu_si512(out.one_triangle + out.one_count,
                            _mm512_maskz_compress_epi32(one, triangles));
        _mm512_storeu_si512(out.one_pixel + out.one_count, _mm512_maskz_compress_epi32(one, low));
        _mm512_storeu_si512(out.several_triangle + out.several_count,
                            _mm512_maskz_compress_epi32(several, triangles));
        out.one_count += __builtin_popcount(one);
        out.several_count += __builtin_popcount(several);
    }
    sort_out_from(i, cells, columns, count, out);
}
#endif

}  // namespace

Instructions instructions() { return g_instructions; }

int32_t select_instructions(int32_t most) {
    const Instructions best = detect_instructions();
    g_instructions = most < best ? static_cast<Instructions>(most) : best;
    return g_instructions;
}

Window prepare_vertices(const float* vertices, int32_t vertex_count, int32_t width, int32_t height,
                        Point* points, uint32_t* cells, Extent* extent) {
#ifdef TDDFA_X86
    if (g_instructions >= kAvx2) {
        return prepare_avx2(vertices, vertex_count, width, height, points, cells, extent);
    }
#endif
    return prepare_body(vertices, vertex_count, width, height, points, cells, extent);
}

Candidates sort_out_triangles(const uint32_t* cells, const Columns& columns, int32_t triangle_count,
                              int32_t* scratch) {
    const int64_t room = int64_t(triangle_count) + kScratchMargin;
    Candidates out{scratch, reinterpret_cast<uint32_t*>(scratch + room), scratch + 2 * room, 0, 0};
    switch (g_instructions) {
#ifdef TDDFA_X86
        case kAvx512:
            sort_out_avx512(cells, columns, triangle_count, out);
            break;
        case kAvx2:
            sort_out_avx2(cells, columns, triangle_count, out);
            break;
#endif
        default:
            sort_out_from(0, cells, columns, triangle_count, out);
    }
    return out;
}

}  // namespace tddfa
