// Attributes of the vertices, interpolated where a face is visible.

#include "raster.h"

namespace tddfa {

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

void depth_byte(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                int16_t face, float scale, float offset, uint8_t* out) {
    const TruncateToByte store;
    for (int32_t y = window.y0; y < window.y1; ++y) {
        const int64_t row = int64_t(y) * width;
        for (int64_t at = row + window.x0; at < row + window.x1; ++at) {
            if (faces[at] == face) out[at] = store(pixels[at].depth * scale + offset);
        }
    }
}

}  // namespace tddfa
