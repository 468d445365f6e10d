// What is read off a visibility buffer: vertex normals, interpolated attributes.
//
// Only the vertices of visible triangles need a normal, about one in four. Each is summed from its
// own ring of triangles, so no work is done for the others and no two sums share memory.

#include "raster.h"

#include <cmath>

namespace tddfa {

void build_rings(const int32_t* triangles, int32_t triangle_count, int32_t vertex_count,
                 int32_t* offsets, int32_t* rings) {
    for (int32_t v = 0; v <= vertex_count; ++v) offsets[v] = 0;
    const int64_t corners = 3 * int64_t(triangle_count);
    for (int64_t k = 0; k < corners; ++k) ++offsets[triangles[k] + 1];
    for (int32_t v = 0; v < vertex_count; ++v) offsets[v + 1] += offsets[v];
    // While filling, offsets[v] walks to the end of its own ring; afterwards all move up by one.
    for (int32_t t = 0; t < triangle_count; ++t) {
        const int32_t* corner = triangles + 3 * int64_t(t);
        for (int32_t k = 0; k < 3; ++k) {
            const int64_t at = offsets[corner[k]]++;
            rings[2 * at] = corner[(k + 1) % 3];
            rings[2 * at + 1] = corner[(k + 2) % 3];
        }
    }
    for (int32_t v = vertex_count; v > 0; --v) offsets[v] = offsets[v - 1];
    offsets[0] = 0;
}

void vertex_normals(const float* vertices, const int32_t* offsets, const int32_t* rings,
                    const int32_t* list, int32_t count, float sign, float* normals) {
    for (int32_t k = 0; k < count; ++k) {
        const int32_t v = list ? list[k] : k;
        const float* p = vertices + 3 * int64_t(v);
        float nx = 0.0f, ny = 0.0f, nz = 0.0f;
        for (int32_t r = offsets[v]; r < offsets[v + 1]; ++r) {
            const float* q = vertices + 3 * int64_t(rings[2 * int64_t(r)]);
            const float* s = vertices + 3 * int64_t(rings[2 * int64_t(r) + 1]);
            const float ax = q[0] - p[0], ay = q[1] - p[1], az = q[2] - p[2];
            const float bx = s[0] - p[0], by = s[1] - p[1], bz = s[2] - p[2];
            nx += ay * bz - az * by;
            ny += az * bx - ax * bz;
            nz += ax * by - ay * bx;
        }
        const float length = std::sqrt(nx * nx + ny * ny + nz * nz);
        const float scale = length > 0.0f && std::isfinite(length) ? sign / length : 0.0f;
        float* out = normals + 3 * int64_t(v);
        out[0] = scale != 0.0f ? nx * scale : 0.0f;
        out[1] = scale != 0.0f ? ny * scale : 0.0f;
        out[2] = scale != 0.0f ? nz * scale : 0.0f;
    }
}

int32_t shown_vertices(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                       int16_t face, const int32_t* triangles, uint32_t stamp, uint32_t* stamps,
                       int32_t* list) {
    int32_t found = 0;
    for (int32_t y = window.y0; y < window.y1; ++y) {
        const int64_t row = int64_t(y) * width;
        for (int32_t x = window.x0; x < window.x1; ++x) {
            if (faces[row + x] != face) continue;
            const int32_t* corner = triangles + 3 * int64_t(pixels[row + x].triangle);
            for (int32_t k = 0; k < 3; ++k) {
                const int32_t v = corner[k];
                list[found] = v;
                found += stamps[v] != stamp;
                stamps[v] = stamp;
            }
        }
    }
    return found;
}

namespace {

struct KeepFloat {
    float operator()(float value) const { return value; }
};

struct TruncateToByte {
    uint8_t operator()(float value) const {
        const float low = value > 0.0f ? value : 0.0f;
        return static_cast<uint8_t>(low < 255.0f ? low : 255.0f);
    }
};

template <int kChannels, typename Out, typename Store>
void interpolate(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                 int16_t face, const int32_t* triangles, const float* attributes, int32_t given,
                 const float* scale, const float* offset, Out* out, Store store) {
    const int32_t channels = kChannels > 0 ? kChannels : given;
    for (int32_t y = window.y0; y < window.y1; ++y) {
        const int64_t row = int64_t(y) * width;
        for (int64_t at = row + window.x0; at < row + window.x1; ++at) {
            if (faces[at] != face) continue;
            const Pixel pixel = pixels[at];
            const int32_t* corner = triangles + 3 * int64_t(pixel.triangle);
            const float* a = attributes + int64_t(corner[0]) * channels;
            const float* b = attributes + int64_t(corner[1]) * channels;
            const float* c = attributes + int64_t(corner[2]) * channels;
            const float weight0 = 1.0f - pixel.weight1 - pixel.weight2;
            for (int32_t k = 0; k < channels; ++k) {
                const float value =
                    weight0 * a[k] + pixel.weight1 * b[k] + pixel.weight2 * c[k];
                out[at * channels + k] = store(value * scale[k] + offset[k]);
            }
        }
    }
}

template <typename Out, typename Store>
void interpolate_any(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                     int16_t face, const int32_t* triangles, const float* attributes,
                     int32_t channels, const float* scale, const float* offset, Out* out,
                     Store store) {
    const auto run = channels == 1   ? interpolate<1, Out, Store>
                     : channels == 2 ? interpolate<2, Out, Store>
                     : channels == 3 ? interpolate<3, Out, Store>
                                     : interpolate<0, Out, Store>;
    run(pixels, faces, width, window, face, triangles, attributes, channels, scale, offset, out,
        store);
}

}  // namespace

void interpolate_float(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                       int16_t face, const int32_t* triangles, const float* attributes,
                       int32_t channels, const float* scale, const float* offset, float* out) {
    interpolate_any(pixels, faces, width, window, face, triangles, attributes, channels, scale,
                    offset, out, KeepFloat());
}

void interpolate_byte(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                      int16_t face, const int32_t* triangles, const float* attributes,
                      int32_t channels, const float* scale, const float* offset, uint8_t* out) {
    interpolate_any(pixels, faces, width, window, face, triangles, attributes, channels, scale,
                    offset, out, TruncateToByte());
}

}  // namespace tddfa
