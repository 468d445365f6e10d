// Runs every kernel of the rasterizer on hostile meshes; built with sanitizers by
// test_rasterize_sanitized.py. Exit status 0 and no report mean that nothing is wrong.

#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "raster.h"

using namespace tddfa;

namespace {

// Exactly as long as the kernels are promised, so that any overrun is seen.
struct Scene {
    int32_t width, height, vertex_count, triangle_count;
    std::vector<float> vertices;
    std::vector<int32_t> triangles, columns;
};

float hostile(std::mt19937& random, float reach) {
    const float infinity = std::numeric_limits<float>::infinity();
    const float special[] = {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity, 3e38f,
                             -3e38f, 1e-42f, 0.0f, -0.0f, 1073741824.0f, -1073741824.0f, 65536.0f};
    if (random() % 40 == 0) return special[random() % 11];
    if (random() % 4 == 0) return static_cast<float>(static_cast<int32_t>(random() % 64));
    return std::uniform_real_distribution<float>(-reach, reach)(random);
}

Scene make_scene(std::mt19937& random) {
    const float reaches[] = {2.0f, 30.0f, 70.0f, 3000.0f, 1e5f, 1e9f};
    Scene s;
    s.width = 1 + random() % 64;
    s.height = 1 + random() % 64;
    s.vertex_count = 1 + random() % 200;
    s.triangle_count = 1 + random() % 300;
    const float reach = reaches[random() % 6];
    s.vertices.resize(3 * s.vertex_count);
    for (float& value : s.vertices) value = hostile(random, reach);
    s.triangles.resize(3 * s.triangle_count);
    s.columns.resize(3 * s.triangle_count);
    for (int32_t t = 0; t < s.triangle_count; ++t) {
        for (int32_t k = 0; k < 3; ++k) {
            const int32_t v = random() % s.vertex_count;
            s.triangles[3 * t + k] = v;
            s.columns[k * s.triangle_count + t] = v;
        }
    }
    return s;
}

void run(std::mt19937& random) {
    const Scene s = make_scene(random);
    const int32_t n = s.vertex_count, m = s.triangle_count, pixels = s.width * s.height;
    // As in rasterize.py, pixels outside the window are never made ready: reading one must not matter.
    std::vector<Pixel> buffer(pixels, Pixel{1e30f, 1 << 30, 1e30f, 1e30f});
    std::vector<int16_t> faces(pixels);
    for (int16_t& face : faces) face = -1;
    std::vector<Point> points(n);
    std::vector<uint32_t> cells(n);
    std::vector<int32_t> scratch(3 * (m + kScratchMargin));
    Extent extent;
    const Window window = prepare_vertices(s.vertices.data(), n, s.width, s.height, points.data(),
                                           cells.data(), &extent);
    clear_window(buffer.data(), faces.data(), s.width, window);
    draw_mesh(s.vertices.data(), points.data(), cells.data(), s.columns.data(), m, scratch.data(), 0,
              random() % 2 == 0, buffer.data(), faces.data(), s.width);

    std::vector<int32_t> offsets(n + 1), pairs(6 * m), ring_data(6 * m);
    build_rings(s.triangles.data(), m, n, offsets.data(), pairs.data(), ring_data.data());
    const Rings rings{offsets.data(), ring_data.data(), n};
    std::vector<uint8_t> marks(n);
    std::vector<int32_t> list(n + 1);
    const int32_t shown = shown_vertices(buffer.data(), faces.data(), s.width, window, 0,
                                         s.triangles.data(), n, marks.data(), list.data());
    std::vector<float> normals(3 * n), light(n), seen(n);
    vertex_normals(rings, s.vertices.data(), nullptr, n, -1.0f, normals.data());
    vertex_normals(rings, s.vertices.data(), list.data(), shown, 1.0f, normals.data());
    const Lighting lighting{0.3f, 0.6f, 0.1f, {0, 0, 5}, {0, 0, 0}, 0.01f};
    vertex_light(rings, s.vertices.data(), list.data(), shown, -1.0f, lighting, light.data());
    std::vector<uint8_t> image(3 * pixels), bytes(pixels);
    const float tint[] = {1.0f, 0.5f, 0.0f};
    blend_light(buffer.data(), faces.data(), s.width, window, 0, s.triangles.data(), light.data(),
                tint, 0.6f, image.data());
    for (float& value : light) value = hostile(random, 300.0f);
    blend_light(buffer.data(), faces.data(), s.width, window, 0, s.triangles.data(), light.data(),
                tint, 1.0f, image.data());
    blend_light(buffer.data(), faces.data(), s.width, window, 0, s.triangles.data(), nullptr, tint,
                1.0f, image.data());
    depth_byte(buffer.data(), faces.data(), s.width, window, 0, 1e30f, -1e30f, bytes.data());
    const View view{buffer.data(), faces.data(), s.height, s.width, 0.25f};
    seen_vertices(view, s.vertices.data(), normals.data(), n, seen.data());
    for (int32_t channels = 1; channels <= 5; ++channels) {
        std::vector<float> attributes(n * channels, 1e38f), scale(channels, 2.0f), out(pixels * channels);
        std::vector<uint8_t> byte_out(pixels * channels);
        interpolate_float(buffer.data(), faces.data(), s.width, window, 0, s.triangles.data(),
                          attributes.data(), channels, scale.data(), scale.data(), out.data());
        interpolate_byte(buffer.data(), faces.data(), s.width, window, 0, s.triangles.data(),
                         attributes.data(), channels, scale.data(), scale.data(), byte_out.data());
        std::vector<uint8_t> picture(pixels * channels, 7);
        std::vector<float> places(2 * n), samples(n * channels);
        for (float& value : places) value = hostile(random, 80.0f);
        sample_bilinear(picture.data(), s.height, s.width, channels, places.data(), n,
                        samples.data());
    }
    std::vector<uint8_t> texture(4 * pixels);
    std::vector<float> weight(pixels);
    bake_texture(buffer.data(), faces.data(), s.height, s.width, s.triangles.data(), s.vertices.data(),
                 seen.data(), 0.0f, view, image.data(), texture.data(), weight.data());
    clear_window(buffer.data(), faces.data(), s.width, window);
    for (const int16_t face : faces) {
        if (face != -1) std::puts("drawn outside its window"), std::exit(1);
    }
}

}  // namespace

int main() {
    for (int32_t most = 0; most < 3; ++most) {
        std::printf("instructions %d\n", select_instructions(most));
        std::mt19937 random(most + 1);
        for (int32_t k = 0; k < 150; ++k) run(random);
    }
    return 0;
}
