# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=True
# distutils: language = c++
"""Binding of the rasterizer: trusts its arguments, ``rasterize.py`` has checked them.

The kernels are in ``visibility.cpp`` and ``attributes.cpp``, and how they work is said there. None
of them holds the interpreter's lock while it computes. A pixel of the visibility buffer is 16
bytes: depth (float32), triangle (int32), weights of the second and third corner (2 float32); here
it comes as four floats.
"""

from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t
from libcpp cimport bool as cbool


cdef extern from "raster.h" namespace "tddfa" nogil:
    cdef struct Pixel:
        pass
    cdef struct Corner:
        pass
    cdef struct Window:
        int32_t x0, y0, x1, y1
    Window c_prepare "tddfa::prepare_vertices"(
        const float *, int32_t, int32_t, int32_t, Corner *, uint32_t *) noexcept
    int32_t c_draw "tddfa::draw_mesh"(
        const Corner *, const uint32_t *, const int32_t *, int32_t, int32_t *, int16_t, cbool,
        Pixel *, int16_t *, int32_t) noexcept
    void c_clear "tddfa::clear_window"(Pixel *, int16_t *, int32_t, Window) noexcept
    int32_t c_select "tddfa::select_instructions"(int32_t) noexcept
    void c_rings "tddfa::build_rings"(
        const int32_t *, int32_t, int32_t, int32_t *, int32_t *) noexcept
    void c_normals "tddfa::vertex_normals"(
        const float *, const int32_t *, const int32_t *, const int32_t *, int32_t, float,
        float *) noexcept
    int32_t c_shown "tddfa::shown_vertices"(
        const Pixel *, const int16_t *, int32_t, Window, int16_t, const int32_t *, uint32_t,
        uint32_t *, int32_t *) noexcept
    void c_interpolate_float "tddfa::interpolate_float"(
        const Pixel *, const int16_t *, int32_t, Window, int16_t, const int32_t *, const float *,
        int32_t, const float *, const float *, float *) noexcept
    void c_interpolate_byte "tddfa::interpolate_byte"(
        const Pixel *, const int16_t *, int32_t, Window, int16_t, const int32_t *, const float *,
        int32_t, const float *, const float *, uint8_t *) noexcept


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


def draw(
    const float[:, ::1] vertices,
    const int32_t[:, ::1] columns,
    float[:, ::1] corners,
    uint32_t[::1] cells,
    int32_t[::1] scratch,
    int16_t face,
    cbool cull_back,
    float[:, :, ::1] pixels,
    int16_t[:, ::1] faces,
):
    """Draw a mesh; returns the window it may have touched, xyxy half-open."""
    cdef Window window
    cdef int32_t height = <int32_t> pixels.shape[0]
    cdef int32_t width = <int32_t> pixels.shape[1]
    cdef Corner *ready = <Corner *> &corners[0, 0]
    with nogil:
        window = c_prepare(
            &vertices[0, 0], <int32_t> vertices.shape[0], width, height, ready, &cells[0])
        c_draw(
            ready, &cells[0], &columns[0, 0], <int32_t> columns.shape[1], &scratch[0], face,
            cull_back, <Pixel *> &pixels[0, 0, 0], &faces[0, 0], width)
    return window.x0, window.y0, window.x1, window.y1


def rings(const int32_t[:, ::1] triangles, int32_t[::1] offsets, int32_t[:, ::1] out):
    with nogil:
        c_rings(
            &triangles[0, 0], <int32_t> triangles.shape[0], <int32_t> offsets.shape[0] - 1,
            &offsets[0], &out[0, 0])


def normals(
    const float[:, ::1] vertices,
    const int32_t[::1] offsets,
    const int32_t[:, ::1] ring,
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
    with nogil:
        c_normals(
            &vertices[0, 0], &offsets[0], &ring[0, 0], chosen_at, count, sign, &out[0, 0])


def shown(
    const float[:, :, ::1] pixels,
    const int16_t[:, ::1] faces,
    tuple xyxy,
    int16_t face,
    const int32_t[:, ::1] triangles,
    uint32_t stamp,
    uint32_t[::1] stamps,
    int32_t[::1] out,
):
    """Write the vertices of visible triangles to `out` (one longer than stamps); their number."""
    cdef Window window = window_of(xyxy)
    cdef int32_t found
    with nogil:
        found = c_shown(
            <const Pixel *> &pixels[0, 0, 0], &faces[0, 0], <int32_t> pixels.shape[1], window,
            face, &triangles[0, 0], stamp, &stamps[0], &out[0])
    return found


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
