# cython: language_level=3, show_performance_hints=False
# distutils: language = c++
"""Binding of the rasterizer: trusts its arguments, ``rasterize.py`` has checked them.

The kernels are in ``attributes.cpp``, ``candidates.cpp``, ``shading.cpp``, ``texture.cpp`` and
``visibility.cpp``, and how they work is said there. None of them holds the interpreter's lock while
it computes. A pixel of the visibility buffer is 16 bytes: depth (float32), triangle (int32),
weights of the second and third corner (2 float32); here it comes as four floats. Index checks stay
on: what is indexed here is the first element only.
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t
from libcpp cimport bool as cbool


cdef extern from "raster.h" namespace "tddfa" nogil:
    const int kScratchMargin
    cdef struct Pixel:
        pass
    cdef struct Point:
        pass
    cdef struct Extent:
        pass
    cdef struct Window:
        int32_t x0, y0, x1, y1
    Window c_prepare "tddfa::prepare_vertices"(
        const float *, int32_t, int32_t, int32_t, Point *, uint32_t *, Extent *) noexcept
    int32_t c_draw "tddfa::draw_mesh"(
        const float *, const Point *, const uint32_t *, const int32_t *, int32_t, int32_t *,
        int16_t, cbool, Pixel *, int16_t *, int32_t) noexcept
    void c_clear "tddfa::clear_window"(Pixel *, int16_t *, int32_t, Window) noexcept
    int32_t c_select "tddfa::select_instructions"(int32_t) noexcept
    int64_t c_rings "tddfa::build_rings"(
        const int32_t *, int32_t, int32_t, int32_t *, int32_t *, int32_t *) noexcept
    cdef struct Rings:
        const int32_t *offsets
        const int32_t *rings
        int32_t vertex_count
    cdef struct Lighting:
        float ambient, directional, specular
        float light[3]
        float centre[3]
        float scale
    void c_normals "tddfa::vertex_normals"(
        const Rings &, const float *, const int32_t *, int32_t, float, float *) noexcept
    void c_light "tddfa::vertex_light"(
        const Rings &, const float *, const int32_t *, int32_t, float, const Lighting &,
        float *) noexcept
    int32_t c_shown "tddfa::shown_vertices"(
        const Pixel *, const int16_t *, int32_t, Window, int16_t, const int32_t *, int32_t,
        uint8_t *, int32_t *) noexcept
    void c_blend "tddfa::blend_light"(
        const Pixel *, const int16_t *, int32_t, Window, int16_t, const int32_t *, const float *,
        const float *, float, uint8_t *) noexcept
    void c_sample "tddfa::sample_bilinear"(
        const uint8_t *, int32_t, int32_t, int32_t, const float *, int64_t, float *) noexcept
    cdef struct View:
        const Pixel *pixels
        const int16_t *faces
        int32_t height, width
        float tolerance
    void c_seen "tddfa::seen_vertices"(
        const View &, const float *, const float *, int32_t, float *) noexcept
    void c_bake "tddfa::bake_texture"(
        const Pixel *, const int16_t *, int32_t, int32_t, const int32_t *, const float *,
        const float *, float, const View &, const uint8_t *, uint8_t *, float *) noexcept
    void c_interpolate_float "tddfa::interpolate_float"(
        const Pixel *, const int16_t *, int32_t, Window, int16_t, const int32_t *, const float *,
        int32_t, const float *, const float *, float *) noexcept
    void c_interpolate_byte "tddfa::interpolate_byte"(
        const Pixel *, const int16_t *, int32_t, Window, int16_t, const int32_t *, const float *,
        int32_t, const float *, const float *, uint8_t *) noexcept
    void c_depth "tddfa::depth_byte"(
        const Pixel *, const int16_t *, int32_t, Window, int16_t, float, float,
        uint8_t *) noexcept


SCRATCH_MARGIN = kScratchMargin


cdef inline Window window_of(tuple xyxy):
    cdef Window window
    window.x0, window.y0, window.x1, window.y1 = xyxy
    return window


def select_instructions(int32_t most):
    """0 portable, 1 AVX2, 2 AVX-512: use at most this; returns what is used."""
    return c_select(most)


def clear(float[:, :, ::1] pixels, int16_t[:, ::1] faces, tuple xyxy):
    cdef Window window = window_of(xyxy)
    with nogil:
        c_clear(<Pixel *> &pixels[0, 0, 0], &faces[0, 0], <int32_t> pixels.shape[1], window)


def prepare(
    const float[:, ::1] vertices,
    float[:, ::1] points,
    uint32_t[::1] cells,
    int32_t height,
    int32_t width,
    float[:, ::1] extent,
):
    """Fill points, cells and extent (2, 3); returns the window that the mesh may touch, xyxy."""
    cdef Window window
    with nogil:
        window = c_prepare(
            &vertices[0, 0], <int32_t> vertices.shape[0], width, height, <Point *> &points[0, 0],
            &cells[0], <Extent *> &extent[0, 0])
    return window.x0, window.y0, window.x1, window.y1


def draw(
    const float[:, ::1] vertices,
    const int32_t[:, ::1] columns,
    const float[:, ::1] points,
    const uint32_t[::1] cells,
    int32_t[::1] scratch,
    int16_t face,
    cbool cull_back,
    float[:, :, ::1] pixels,
    int16_t[:, ::1] faces,
):
    """Draw a prepared mesh."""
    with nogil:
        c_draw(
            &vertices[0, 0], <const Point *> &points[0, 0], &cells[0], &columns[0, 0],
            <int32_t> columns.shape[1], &scratch[0], face, cull_back, <Pixel *> &pixels[0, 0, 0],
            &faces[0, 0], <int32_t> pixels.shape[1])


def rings(
    const int32_t[:, ::1] triangles, int32_t[::1] offsets, int32_t[::1] pairs, int32_t[::1] out
):
    """Write the fans around each vertex; returns how much of `out` (6 m long) is used."""
    cdef int64_t used
    with nogil:
        used = c_rings(
            &triangles[0, 0], <int32_t> triangles.shape[0], <int32_t> offsets.shape[0] - 1,
            &offsets[0], &pairs[0], &out[0])
    return used


cdef inline Rings rings_of(const int32_t[::1] offsets, const int32_t[::1] ring):
    cdef Rings result
    result.offsets = &offsets[0]
    result.rings = &ring[0]
    result.vertex_count = <int32_t> offsets.shape[0] - 1
    return result


def normals(
    const float[:, ::1] vertices,
    const int32_t[::1] offsets,
    const int32_t[::1] ring,
    const int32_t[::1] chosen,
    float sign,
    float[:, ::1] out,
):
    """Normals of the chosen vertices, or of all if `chosen` is None."""
    cdef const int32_t *chosen_at = NULL
    cdef int32_t count = <int32_t> vertices.shape[0]
    if chosen is not None:
        count = <int32_t> chosen.shape[0]
        if count == 0:
            return
        chosen_at = &chosen[0]
    cdef Rings rings = rings_of(offsets, ring)
    with nogil:
        c_normals(rings, &vertices[0, 0], chosen_at, count, sign, &out[0, 0])


def light(
    const float[:, ::1] vertices,
    const int32_t[::1] offsets,
    const int32_t[::1] ring,
    const int32_t[::1] chosen,
    float sign,
    const float[:, ::1] extent,
    tuple intensities,
    tuple light_xyz,
    float[::1] out,
):
    """Light of the chosen vertices; the mesh is first scaled to a longest side of 2."""
    cdef Lighting lighting
    cdef float longest = 0
    cdef int32_t k
    cdef Rings rings = rings_of(offsets, ring)
    if chosen.shape[0] == 0:
        return
    lighting.ambient, lighting.directional, lighting.specular = intensities
    for k in range(3):
        longest = max(longest, extent[1, k] - extent[0, k])
        lighting.light[k] = light_xyz[k]
        lighting.centre[k] = 0.5 * (extent[0, k] + extent[1, k])
    lighting.scale = 2.0 / longest if longest > 0 else 0.0
    with nogil:
        c_light(
            rings, &vertices[0, 0], &chosen[0], <int32_t> chosen.shape[0], sign, lighting, &out[0])


def shown(
    const float[:, :, ::1] pixels,
    const int16_t[:, ::1] faces,
    tuple xyxy,
    int16_t face,
    const int32_t[:, ::1] triangles,
    int32_t vertex_count,
    uint8_t[::1] marks,
    int32_t[::1] out,
):
    """Write the vertices of visible triangles to `out` (one longer than marks); their number."""
    cdef Window window = window_of(xyxy)
    cdef int32_t found
    with nogil:
        found = c_shown(
            <const Pixel *> &pixels[0, 0, 0], &faces[0, 0], <int32_t> pixels.shape[1], window,
            face, &triangles[0, 0], vertex_count, &marks[0], &out[0])
    return found


def blend(
    const float[:, :, ::1] pixels,
    const int16_t[:, ::1] faces,
    tuple xyxy,
    int16_t face,
    const int32_t[:, ::1] triangles,
    const float[::1] light,
    const float[::1] tint,
    float alpha,
    uint8_t[:, :, ::1] image,
):
    """Blend a face into the image; flat if `light` is None."""
    cdef Window window = window_of(xyxy)
    cdef const float *light_at = NULL
    if light is not None:
        light_at = &light[0]
    with nogil:
        c_blend(
            <const Pixel *> &pixels[0, 0, 0], &faces[0, 0], <int32_t> pixels.shape[1], window,
            face, &triangles[0, 0], light_at, &tint[0], alpha, &image[0, 0, 0])


def sample(const uint8_t[:, :, ::1] image, const float[:, ::1] points, float[:, ::1] out):
    if points.shape[0] == 0:
        return
    with nogil:
        c_sample(
            &image[0, 0, 0], <int32_t> image.shape[0], <int32_t> image.shape[1],
            <int32_t> image.shape[2], &points[0, 0], points.shape[0], &out[0, 0])


cdef inline View view_of(
    const float[:, :, ::1] pixels, const int16_t[:, ::1] faces, float tolerance
):
    cdef View view
    view.pixels = <const Pixel *> &pixels[0, 0, 0]
    view.faces = &faces[0, 0]
    view.height, view.width = <int32_t> pixels.shape[0], <int32_t> pixels.shape[1]
    view.tolerance = tolerance
    return view


def seen(
    const float[:, :, ::1] pixels,
    const int16_t[:, ::1] faces,
    const float[:, ::1] vertices,
    const float[:, ::1] normals,
    float tolerance,
    float[::1] out,
):
    cdef View view = view_of(pixels, faces, tolerance)
    with nogil:
        c_seen(view, &vertices[0, 0], &normals[0, 0], <int32_t> vertices.shape[0], &out[0])


def bake(
    const float[:, :, ::1] texels,
    const int16_t[:, ::1] faces,
    const int32_t[:, ::1] triangles,
    const float[:, ::1] vertices,
    const float[::1] facing,
    float threshold,
    const float[:, :, ::1] pixels,
    const int16_t[:, ::1] pixel_faces,
    float tolerance,
    const uint8_t[:, :, ::1] image,
    uint8_t[:, :, ::1] out,
    float[:, ::1] weight,
):
    """Bake a texture from an image as large as `pixels`."""
    cdef View view = view_of(pixels, pixel_faces, tolerance)
    with nogil:
        c_bake(
            <const Pixel *> &texels[0, 0, 0], &faces[0, 0], <int32_t> texels.shape[0],
            <int32_t> texels.shape[1], &triangles[0, 0], &vertices[0, 0], &facing[0],
            threshold, view, &image[0, 0, 0], &out[0, 0, 0], &weight[0, 0])


def interpolate_float(
    const float[:, :, ::1] pixels,
    const int16_t[:, ::1] faces,
    tuple xyxy,
    int16_t face,
    const int32_t[:, ::1] triangles,
    const float[:, ::1] attributes,
    const float[::1] scale,
    const float[::1] offset,
    float[:, :, ::1] out,
):
    cdef Window window = window_of(xyxy)
    with nogil:
        c_interpolate_float(
            <const Pixel *> &pixels[0, 0, 0], &faces[0, 0], <int32_t> pixels.shape[1], window,
            face, &triangles[0, 0], &attributes[0, 0], <int32_t> attributes.shape[1], &scale[0],
            &offset[0], &out[0, 0, 0])


def interpolate_byte(
    const float[:, :, ::1] pixels,
    const int16_t[:, ::1] faces,
    tuple xyxy,
    int16_t face,
    const int32_t[:, ::1] triangles,
    const float[:, ::1] attributes,
    const float[::1] scale,
    const float[::1] offset,
    uint8_t[:, :, ::1] out,
):
    cdef Window window = window_of(xyxy)
    with nogil:
        c_interpolate_byte(
            <const Pixel *> &pixels[0, 0, 0], &faces[0, 0], <int32_t> pixels.shape[1], window,
            face, &triangles[0, 0], &attributes[0, 0], <int32_t> attributes.shape[1], &scale[0],
            &offset[0], &out[0, 0, 0])


def depth_byte(
    const float[:, :, ::1] pixels,
    const int16_t[:, ::1] faces,
    tuple xyxy,
    int16_t face,
    float scale,
    float offset,
    uint8_t[:, ::1] out,
):
    cdef Window window = window_of(xyxy)
    with nogil:
        c_depth(
            <const Pixel *> &pixels[0, 0, 0], &faces[0, 0], <int32_t> pixels.shape[1], window,
            face, scale, offset, &out[0, 0])
