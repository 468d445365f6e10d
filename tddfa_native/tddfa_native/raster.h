// Kernels of tddfa_native.rasterize: plain C++ without Python, exceptions or allocation.
//
// Image space: x right, y down, pixel centres at integers, z larger = nearer. Callers guarantee
// that every index is in range and that every array has the size stated here.

#ifndef TDDFA_NATIVE_RASTER_H_
#define TDDFA_NATIVE_RASTER_H_

#include <cstdint>

namespace tddfa {

// What one pixel of the visibility buffer knows; triangle is -1 where nothing is drawn.
// The weight of the triangle's first corner is 1 - weight1 - weight2. Kernels read a pixel only where
// the face plane beside the buffer says that a face (0 or more) was drawn.
struct Pixel {
    float depth;
    int32_t triangle;
    float weight1;
    float weight2;
};

// x and y of a vertex, made ready for drawing: on the sub-pixel grid, NaN if it is not drawable.
struct Point {
    float x, y;
};

// Least and largest coordinates of a mesh, NaN left out.
struct Extent {
    float low[3], high[3];
};

// Half-open rectangle of pixels.
struct Window {
    int32_t x0, y0, x1, y1;
};

// Triangles of a mesh, corner by corner.
struct Columns {
    const int32_t *t0, *t1, *t2;
};

// Triangles that may hold a pixel centre: those whose box is one pixel, with it, and the others.
struct Candidates {
    int32_t* one_triangle;
    uint32_t* one_pixel;  // column | row << 16
    int32_t* several_triangle;
    int32_t one_count, several_count;
};

constexpr int32_t kScratchMargin = 16;  // vector stores run past the end of a list

// ---- candidates.cpp

// Limit the instruction set for tests: 0 portable, 1 AVX2, 2 AVX-512; returns what is used.
int32_t select_instructions(int32_t most);

// Fill `points` and `cells` (both vertex_count long) and `extent`; returns the pixels the mesh may
// touch. A cell is ceil(x) | ceil(y) << 16, clamped to the image.
Window prepare_vertices(const float* vertices, int32_t vertex_count, int32_t width, int32_t height,
                        Point* points, uint32_t* cells, Extent* extent);

// scratch: 3 * (triangle_count + kScratchMargin) long.
Candidates sort_out_triangles(const uint32_t* cells, const Columns& columns, int32_t triangle_count,
                              int32_t* scratch);

// ---- visibility.cpp

// Draw a prepared mesh; returns the number of triangles that may hold a pixel centre.
// columns: (3, triangle_count); scratch as for sort_out_triangles.
int32_t draw_mesh(const float* vertices, const Point* points, const uint32_t* cells,
                  const int32_t* columns, int32_t triangle_count, int32_t* scratch, int16_t face,
                  bool cull_back, Pixel* pixels, int16_t* faces, int32_t width);

void clear_window(Pixel* pixels, int16_t* faces, int32_t width, Window window);

// ---- shading.cpp

// Around each vertex its neighbours, in fans of triangles (v, a, b), (v, b, c), ... The first of a
// fan is stored as its bitwise complement, so it is negative.
struct Rings {
    const int32_t* offsets;  // (vertex_count + 1,)
    const int32_t* rings;
    int32_t vertex_count;
};

// Intensities, and positions in the space (vertex - centre) * scale.
struct Lighting {
    float ambient, directional, specular;
    float light[3];
    float centre[3];
    float scale;
};

// pairs: scratch, rings: both 6 * triangle_count long; returns how much of rings is used.
int64_t build_rings(const int32_t* triangles, int32_t triangle_count, int32_t vertex_count,
                    int32_t* offsets, int32_t* pairs, int32_t* rings);

// Area-weighted unit normals times `sign`, zero where undefined. `list` picks vertices, or null.
void vertex_normals(const Rings& rings, const float* vertices, const int32_t* list, int32_t count,
                    float sign, float* normals);

// Light of the listed vertices, 0 to 255.
void vertex_light(const Rings& rings, const float* vertices, const int32_t* list, int32_t count,
                  float sign, const Lighting& lighting, float* light);

// Vertices of the triangles that show face `face`, ascending; marks: (vertex_count,) scratch;
// list: vertex_count + 1 long.
int32_t shown_vertices(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                       int16_t face, const int32_t* triangles, int32_t vertex_count,
                       uint8_t* marks, int32_t* list);

// image (height, width, 3) = image * (1 - alpha) + light * tint * alpha, the light clipped to
// [0, 255]; null: light is 255.
void blend_light(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                 int16_t face, const int32_t* triangles, const float* light, const float* tint,
                 float alpha, uint8_t* image);

// ---- texture.cpp

// points: (count, 2) pixels; out: (count, channels). Points beyond the image take its border.
void sample_bilinear(const uint8_t* image, int32_t height, int32_t width, int32_t channels,
                     const float* points, int64_t count, float* out);

// What the camera sees: a point counts as hidden that lies more than `tolerance` behind it.
struct View {
    const Pixel* pixels;
    const int16_t* faces;
    int32_t height, width;
    float tolerance;
};

// z of the normal of each vertex that the camera sees, 0 for the others.
void seen_vertices(const View& view, const float* vertices, const float* normals,
                   int32_t vertex_count, float* seen);

// Texture of a mesh whose texture coordinates were drawn to `texels`, from an image of the view's
// size. facing: z of each vertex's normal; out: BGRA, alpha 255 where nothing hides the texel and
// the interpolated `facing` exceeds `threshold`, else all 0; weight: that value, or 0.
void bake_texture(const Pixel* texels, const int16_t* faces, int32_t texture_height, int32_t texture_width,
                  const int32_t* triangles, const float* vertices, const float* facing,
                  float threshold, const View& view, const uint8_t* image, uint8_t* out,
                  float* weight);

// ---- attributes.cpp

// out (height, width, channels) = interpolated attribute * scale[channel] + offset[channel].
void interpolate_float(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                       int16_t face, const int32_t* triangles, const float* attributes,
                       int32_t channels, const float* scale, const float* offset, float* out);

// The same, clipped to [0, 255] and truncated, as the public reference stores colours.
void interpolate_byte(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                      int16_t face, const int32_t* triangles, const float* attributes,
                      int32_t channels, const float* scale, const float* offset, uint8_t* out);

// out (height, width) = depth * scale + offset, clipped and truncated likewise.
void depth_byte(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                int16_t face, float scale, float offset, uint8_t* out);

}  // namespace tddfa

#endif  // TDDFA_NATIVE_RASTER_H_
