// Vertex normals and light, and the blend of a lit face into an image.
//
// Only the vertices of visible triangles need a normal. Each is summed from its own ring of
// triangles, so no work is done for the others and no two sums share memory. Light is computed in
// blocks, by loops that compilers vectorise.

#include "raster.h"

#include <cmath>
#include <cstring>

#include "instructions.h"

namespace tddfa {

namespace {

// How many pairs are looked through for the next of a fan. What lies further begins a fan of its
// own: sums are the same, and a vertex of a million triangles costs no square of that.
constexpr int32_t kFanReach = 64;

}  // namespace

int64_t build_rings(const int32_t* triangles, int32_t triangle_count, int32_t vertex_count,
                    int32_t* offsets, int32_t* pairs, int32_t* rings) {
    for (int32_t v = 0; v <= vertex_count; ++v) offsets[v] = 0;
    const int64_t corners = 3 * int64_t(triangle_count);
    for (int64_t k = 0; k < corners; ++k) ++offsets[triangles[k] + 1];
    for (int32_t v = 0; v < vertex_count; ++v) offsets[v + 1] += offsets[v];
    // The pairs around vertex v. While filling, offsets[v] walks to the end of its own part.
    for (int32_t t = 0; t < triangle_count; ++t) {
        const int32_t* corner = triangles + 3 * int64_t(t);
        for (int32_t k = 0; k < 3; ++k) {
            const int64_t at = offsets[corner[k]]++;
            pairs[2 * at] = corner[(k + 1) % 3];
            pairs[2 * at + 1] = corner[(k + 2) % 3];
        }
    }
    // Chain pairs into fans: b, c of one pair, then what follows c in another, as long as any does.
    int64_t written = 0;
    int32_t begin = 0;
    for (int32_t v = 0; v < vertex_count; ++v) {
        const int32_t end = offsets[v];
        offsets[v] = static_cast<int32_t>(written);
        int32_t used = begin;
        while (used < end) {
            rings[written++] = ~pairs[2 * int64_t(used)];
            int32_t tip = pairs[2 * int64_t(used) + 1];
            rings[written++] = tip;
            ++used;
            for (int32_t k = used; k < end && k - used < kFanReach; ++k) {
                if (pairs[2 * int64_t(k)] != tip) continue;
                tip = pairs[2 * int64_t(k) + 1];
                rings[written++] = tip;
                pairs[2 * int64_t(k)] = pairs[2 * int64_t(used)];  // swap it to the used part
                pairs[2 * int64_t(k) + 1] = pairs[2 * int64_t(used) + 1];
                ++used;
                k = used - 1;
            }
        }
        begin = end;
    }
    offsets[vertex_count] = static_cast<int32_t>(written);
    return written;
}

namespace {

constexpr int32_t kBlock = 256;

// Four floats that compilers keep in one register, on every processor that has such registers.
typedef float Float4 __attribute__((vector_size(16)));

// The fourth value is the next vertex's x, or 0 for the last vertex; it is never used.
TDDFA_INLINE Float4 load_vertex(const float* vertices, int32_t v, int32_t last) {
    const float* from = vertices + 3 * int64_t(v);
    if (v == last) return Float4{from[0], from[1], from[2], 0.0f};
    Float4 value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}

TDDFA_INLINE Float4 rotated(Float4 v) {  // y z x
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(v, v, 1, 2, 0, 3);
#else
    typedef int32_t Int4 __attribute__((vector_size(16)));
    return __builtin_shuffle(v, Int4{1, 2, 0, 3});
#endif
}

// Sum of the cross products around vertex v, twice the area-weighted normal, as z x y.
TDDFA_INLINE Float4 ring_sum(const float* vertices, int32_t last, const int32_t* offsets,
                             const int32_t* rings, int32_t v) {
    const Float4 p = load_vertex(vertices, v, last);
    Float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
    Float4 a = sum, a_rotated = sum;
    for (int32_t k = offsets[v]; k < offsets[v + 1]; ++k) {
        const int32_t neighbour = rings[k];
        if (neighbour < 0) {  // a new fan
            a = load_vertex(vertices, ~neighbour, last) - p;
            a_rotated = rotated(a);
            continue;
        }
        const Float4 b = load_vertex(vertices, neighbour, last) - p;
        const Float4 b_rotated = rotated(b);
        sum += a * b_rotated - a_rotated * b;
        a = b;
        a_rotated = b_rotated;
    }
    return sum;
}

struct Block {
    float nx[kBlock], ny[kBlock], nz[kBlock];
    float px[kBlock], py[kBlock], pz[kBlock];
    float light[kBlock];
};

TDDFA_INLINE float clip01(float value) {
    const float low = value > 0.0f ? value : 0.0f;
    return low < 1.0f ? low : 1.0f;
}

TDDFA_INLINE void normalise_body(Block& b, float sign) {
    for (int32_t i = 0; i < kBlock; ++i) {
        const float square = b.nx[i] * b.nx[i] + b.ny[i] * b.ny[i] + b.nz[i] * b.nz[i];
        // Outside these bounds, and for NaN, the direction means nothing.
        const int32_t defined = int32_t(square > 1e-30f) & int32_t(square < 1e30f);
        const float scale = sign / std::sqrt(defined ? square : 1.0f);
        b.nx[i] = defined ? b.nx[i] * scale : 0.0f;
        b.ny[i] = defined ? b.ny[i] * scale : 0.0f;
        b.nz[i] = defined ? b.nz[i] * scale : 0.0f;
    }
}

// The public reference's lighting, its sum of the fifth powers of each component included.
TDDFA_INLINE void light_body(Block& b, const Lighting& l) {
    for (int32_t i = 0; i < kBlock; ++i) {
        const float dx = l.light[0] - (b.px[i] - l.centre[0]) * l.scale;
        const float dy = l.light[1] - (b.py[i] - l.centre[1]) * l.scale;
        const float dz = l.light[2] - (b.pz[i] - l.centre[2]) * l.scale;
        const float unit = 1.0f / std::sqrt(dx * dx + dy * dy + dz * dz);
        const float lx = dx * unit, ly = dy * unit, lz = dz * unit;
        const float cosine = b.nx[i] * lx + b.ny[i] * ly + b.nz[i] * lz;
        const float sx = lx * (2.0f * cosine * b.nx[i] - lx);
        const float sy = ly * (2.0f * cosine * b.ny[i] - ly);
        const float sz = lz * (2.0f * cosine * b.nz[i] - lz);
        const float shine = sx * sx * sx * sx * sx + sy * sy * sy * sy * sy + sz * sz * sz * sz * sz;
        const float specular = cosine != 0.0f ? clip01(shine) : 0.0f;
        b.light[i] =
            255.0f * clip01(l.ambient + l.directional * clip01(cosine) + l.specular * specular);
    }
}

TDDFA_INLINE void block_body(Block& b, float sign, const Lighting* lighting) {
    normalise_body(b, sign);
    if (lighting) light_body(b, *lighting);
}

#ifdef TDDFA_X86
TDDFA_AVX2 void block_avx2(Block& b, float sign, const Lighting* lighting) {
    block_body(b, sign, lighting);
}
#endif

void compute_block(Block& b, float sign, const Lighting* lighting) {
#ifdef TDDFA_X86
    if (instructions() >= kAvx2) return block_avx2(b, sign, lighting);
#endif
    block_body(b, sign, lighting);
}

// Normals, and with `lighting` their light, of the listed vertices.
void shade(const Rings& r, const float* vertices, const int32_t* list, int32_t count, float sign,
           const Lighting* lighting, float* normals, float* light) {
    const int32_t last = r.vertex_count - 1;
    Block b = {};
    for (int32_t begin = 0; begin < count; begin += kBlock) {
        const int32_t n = count - begin < kBlock ? count - begin : kBlock;
        for (int32_t i = 0; i < n; ++i) {
            const int32_t v = list ? list[begin + i] : begin + i;
            const Float4 sum = ring_sum(vertices, last, r.offsets, r.rings, v);
            b.nx[i] = sum[1];
            b.ny[i] = sum[2];
            b.nz[i] = sum[0];
            b.px[i] = vertices[3 * int64_t(v)];
            b.py[i] = vertices[3 * int64_t(v) + 1];
            b.pz[i] = vertices[3 * int64_t(v) + 2];
        }
        compute_block(b, sign, lighting);
        for (int32_t i = 0; i < n; ++i) {
            const int32_t v = list ? list[begin + i] : begin + i;
            if (normals) {
                normals[3 * int64_t(v)] = b.nx[i];
                normals[3 * int64_t(v) + 1] = b.ny[i];
                normals[3 * int64_t(v) + 2] = b.nz[i];
            }
            if (light) light[v] = b.light[i];
        }
    }
}

}  // namespace

void vertex_normals(const Rings& rings, const float* vertices, const int32_t* list, int32_t count,
                    float sign, float* normals) {
    shade(rings, vertices, list, count, sign, nullptr, normals, nullptr);
}

void vertex_light(const Rings& rings, const float* vertices, const int32_t* list, int32_t count,
                  float sign, const Lighting& lighting, float* light) {
    shade(rings, vertices, list, count, sign, &lighting, nullptr, light);
}

int32_t shown_vertices(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                       int16_t face, const int32_t* triangles, int32_t vertex_count,
                       uint8_t* marks, int32_t* list) {
    std::memset(marks, 0, vertex_count);
    for (int32_t y = window.y0; y < window.y1; ++y) {
        const int64_t row = int64_t(y) * width;
        for (int64_t at = row + window.x0; at < row + window.x1; ++at) {
            if (faces[at] != face) continue;
            const int32_t* corner = triangles + 3 * int64_t(pixels[at].triangle);
            marks[corner[0]] = 1;
            marks[corner[1]] = 1;
            marks[corner[2]] = 1;
        }
    }
    int32_t found = 0;
    for (int32_t v = 0; v < vertex_count; ++v) {
        list[found] = v;
        found += marks[v];
    }
    return found;
}

void blend_light(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                 int16_t face, const int32_t* triangles, const float* light, const float* tint,
                 float alpha, uint8_t* image) {
    float kept[256];  // what remains of each value of the image, and half a step to round
    for (int32_t value = 0; value < 256; ++value) kept[value] = (1.0f - alpha) * value + 0.5f;
    for (int32_t y = window.y0; y < window.y1; ++y) {
        const int64_t row = int64_t(y) * width;
        for (int64_t at = row + window.x0; at < row + window.x1; ++at) {
            if (faces[at] != face) continue;
            float value = 255.0f;
            if (light) {
                const Pixel pixel = pixels[at];
                const int32_t* corner = triangles + 3 * int64_t(pixel.triangle);
                value = (1.0f - pixel.weight1 - pixel.weight2) * light[corner[0]] +
                        pixel.weight1 * light[corner[1]] + pixel.weight2 * light[corner[2]];
                value = value > 0.0f ? value : 0.0f;  // NaN too becomes 0
                value = value < 255.0f ? value : 255.0f;
            }
            uint8_t* out = image + 3 * at;
            for (int32_t k = 0; k < 3; ++k) {
                // Truncated as the reference stores it, then rounded as its blending does.
                const float colour = static_cast<float>(static_cast<int32_t>(value * tint[k]));
                out[k] = static_cast<uint8_t>(
                    static_cast<int32_t>(kept[out[k]] + alpha * colour));
            }
        }
    }
}

}  // namespace tddfa
