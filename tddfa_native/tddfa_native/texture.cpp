// From the image onto the mesh: bilinear samples, and what of it the camera saw.

#include "raster.h"

#include <cstring>
#include <limits>

namespace tddfa {
namespace {

// Bilinear sample of 8-bit channels; points beyond the image take its border.
template <int kChannels>
inline void sample(const uint8_t* image, int32_t height, int32_t width, int32_t given, float x,
                   float y, float* out) {
    const int32_t channels = kChannels > 0 ? kChannels : given;
    const float right = static_cast<float>(width - 1), bottom = static_cast<float>(height - 1);
    const float px = x > 0.0f ? (x < right ? x : right) : 0.0f;  // NaN takes the first pixel
    const float py = y > 0.0f ? (y < bottom ? y : bottom) : 0.0f;
    const int32_t x0 = static_cast<int32_t>(px), y0 = static_cast<int32_t>(py);
    const int64_t next = x0 + 1 < width ? channels : 0;
    const int64_t below = y0 + 1 < height ? int64_t(width) * channels : 0;
    const float fx = px - static_cast<float>(x0), fy = py - static_cast<float>(y0);
    const uint8_t* p = image + (int64_t(y0) * width + x0) * channels;
    for (int32_t k = 0; k < channels; ++k) {
        const float top = p[k] + fx * static_cast<float>(p[k + next] - p[k]);
        const float low =
            p[below + k] + fx * static_cast<float>(p[below + k + next] - p[below + k]);
        out[k] = top + fy * (low - top);
    }
}

// Whether a point lies in the image and, but for the tolerance, before what was drawn there.
inline bool shown(const View& view, float x, float y, float z) {
    const float right = static_cast<float>(view.width) - 0.5f;
    const float bottom = static_cast<float>(view.height) - 0.5f;
    if (!(x > -0.5f && y > -0.5f && x < right && y < bottom)) return false;
    const int32_t x0 = x > 0.0f ? static_cast<int32_t>(x) : 0;
    const int32_t y0 = y > 0.0f ? static_cast<int32_t>(y) : 0;
    const int32_t x1 = x0 + 1 < view.width ? x0 + 1 : x0;
    const int32_t y1 = y0 + 1 < view.height ? y0 + 1 : y0;
    // Between four pixels of one surface, a point lies above the lowest of them; an empty pixel
    // hides nothing.
    const int64_t around[4] = {int64_t(y0) * view.width + x0, int64_t(y0) * view.width + x1,
                               int64_t(y1) * view.width + x0, int64_t(y1) * view.width + x1};
    for (const int64_t at : around) {
        const float depth = view.faces[at] < 0 ? -std::numeric_limits<float>::infinity()
                                               : view.pixels[at].depth;
        if (z >= depth - view.tolerance) return true;
    }
    return false;
}

}  // namespace

void sample_bilinear(const uint8_t* image, int32_t height, int32_t width, int32_t channels,
                     const float* points, int64_t count, float* out) {
    for (int64_t i = 0; i < count; ++i) {
        if (channels == 3) {
            sample<3>(image, height, width, 3, points[2 * i], points[2 * i + 1], out + 3 * i);
        } else {
            sample<0>(image, height, width, channels, points[2 * i], points[2 * i + 1],
                      out + channels * i);
        }
    }
}

void seen_vertices(const View& view, const float* vertices, const float* normals,
                   int32_t vertex_count, float* seen) {
    for (int32_t v = 0; v < vertex_count; ++v) {
        const float* at = vertices + 3 * int64_t(v);
        const float facing = normals[3 * int64_t(v) + 2];
        seen[v] = facing > 0.0f && shown(view, at[0], at[1], at[2]) ? facing : 0.0f;
    }
}

// Each texel is decided by itself: corners of a coarse triangle may be hidden where its middle is
// not, as those of an eye under the lids.
void bake_texture(const Pixel* texels, const int16_t* faces, int32_t texture_height, int32_t texture_width,
                  const int32_t* triangles, const float* vertices, const float* facing,
                  float threshold, const View& view, const uint8_t* image, uint8_t* out,
                  float* weight) {
    const int64_t count = int64_t(texture_height) * texture_width;
    std::memset(out, 0, 4 * count);
    std::memset(weight, 0, sizeof(float) * count);
    for (int64_t at = 0; at < count; ++at) {
        if (faces[at] < 0) continue;
        const Pixel t = texels[at];
        const int32_t* corner = triangles + 3 * int64_t(t.triangle);
        const float weight0 = 1.0f - t.weight1 - t.weight2;
        const float cosine = weight0 * facing[corner[0]] + t.weight1 * facing[corner[1]] +
                             t.weight2 * facing[corner[2]];
        if (!(cosine > threshold)) continue;
        const float* a = vertices + 3 * int64_t(corner[0]);
        const float* b = vertices + 3 * int64_t(corner[1]);
        const float* c = vertices + 3 * int64_t(corner[2]);
        const float x = weight0 * a[0] + t.weight1 * b[0] + t.weight2 * c[0];
        const float y = weight0 * a[1] + t.weight1 * b[1] + t.weight2 * c[1];
        const float z = weight0 * a[2] + t.weight1 * b[2] + t.weight2 * c[2];
        if (!shown(view, x, y, z)) continue;
        uint8_t* texel = out + 4 * at;
        float colour[3];
        sample<3>(image, view.height, view.width, 3, x, y, colour);
        for (int32_t k = 0; k < 3; ++k) texel[k] = static_cast<uint8_t>(static_cast<int32_t>(colour[k] + 0.5f));
        texel[3] = 255;
        weight[at] = cosine;
    }
}

}  // namespace tddfa
