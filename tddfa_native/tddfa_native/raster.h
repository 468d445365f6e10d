// Kernels of tddfa_native.rasterize: plain C++ without Python, exceptions or allocation.
//
// Image space: x right, y down, pixel centres at integers, z larger = nearer. Callers guarantee
// that every index is in range and that every array has the size stated here.

#ifndef TDDFA_NATIVE_RASTER_H_
#define TDDFA_NATIVE_RASTER_H_

#include <cstdint>

namespace tddfa {

// What one pixel of the visibility buffer knows; triangle is -1 where nothing is drawn.
// The weight of the triangle's first corner is 1 - weight1 - weight2.
struct Pixel {
    float depth;
    int32_t triangle;
    float weight1;
    float weight2;
};

// A vertex made ready for drawing: x and y on the sub-pixel grid, NaN throughout if not drawable.
struct Corner {
    float x, y, z, unused;
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

// Fill `corners` and `cells` (both vertex_count long) and return the pixels the mesh may touch.
// A cell is ceil(x) | ceil(y) << 16, clamped to the image.
Window prepare_vertices(const float* vertices, int32_t vertex_count, int32_t width, int32_t height,
                        Corner* corners, uint32_t* cells);

// scratch: 3 * (triangle_count + kScratchMargin) long.
Candidates sort_out_triangles(const uint32_t* cells, const Columns& columns, int32_t triangle_count,
                              int32_t* scratch);

// ---- visibility.cpp

// Draw a prepared mesh; returns the number of triangles that may hold a pixel centre.
// columns: (3, triangle_count); scratch as for sort_out_triangles.
int32_t draw_mesh(const Corner* corners, const uint32_t* cells, const int32_t* columns,
                  int32_t triangle_count, int32_t* scratch, int16_t face, bool cull_back,
                  Pixel* pixels, int16_t* faces, int32_t width);

void clear_window(Pixel* pixels, int16_t* faces, int32_t width, Window window);

// ---- attributes.cpp

// The two other corners, in order, of each triangle around each vertex.
// offsets: (vertex_count + 1,), rings: (3 * triangle_count, 2).
void build_rings(const int32_t* triangles, int32_t triangle_count, int32_t vertex_count,
                 int32_t* offsets, int32_t* rings);

// Area-weighted unit normals times `sign`, zero where undefined. `list` picks vertices, or null.
void vertex_normals(const float* vertices, const int32_t* offsets, const int32_t* rings,
                    const int32_t* list, int32_t count, float sign, float* normals);

// Vertices of the triangles that show face `face`; stamps (vertex_count,) must differ from stamp.
int32_t shown_vertices(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                       int16_t face, const int32_t* triangles, uint32_t stamp, uint32_t* stamps,
                       int32_t* list);

// out (height, width, channels) = interpolated attribute * scale[channel] + offset[channel].
void interpolate_float(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                       int16_t face, const int32_t* triangles, const float* attributes,
                       int32_t channels, const float* scale, const float* offset, float* out);

// The same, clipped to [0, 255] and truncated, as the public reference stores colours.
void interpolate_byte(const Pixel* pixels, const int16_t* faces, int32_t width, Window window,
                      int16_t face, const int32_t* triangles, const float* attributes,
                      int32_t channels, const float* scale, const float* offset, uint8_t* out);

}  // namespace tddfa

#endif  // TDDFA_NATIVE_RASTER_H_
