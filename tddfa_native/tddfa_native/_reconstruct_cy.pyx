# cython: language_level=3
# distutils: language = c++
"""Binding of the dense reconstruction: trusts its arguments, `reconstruct.py` has checked them.

The kernels, and how they work, are in ``reconstruct_kernel.cpp``. Nothing here or there holds the
interpreter's lock while it computes.
"""

from libc.stdint cimport int32_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector


cdef extern from "reconstruct_kernel.h" namespace "tddfa" nogil:
    const int kBlock
    cdef struct PackedModel:
        const int32_t *shape_basis
        const int32_t *expression_basis
        Py_ssize_t shapes
        Py_ssize_t expressions
        Py_ssize_t vertices
    cdef struct FaceJob:
        const float *base
        const float *shape
        const float *expression
        const float *camera
        float *out
        float min_z
    ctypedef void (*ReconstructFn)(const PackedModel &, FaceJob *, Py_ssize_t, cbool, cbool) noexcept
    ctypedef void (*HoldFn)(const PackedModel &, const float *, const float *, float *) noexcept
    cdef struct Kernel:
        const char *name
        ReconstructFn reconstruct
        HoldFn hold
    const Kernel *kernels(int *count)


BLOCK = kBlock


def kernel_names():
    """Names of the kernels that this processor runs, fastest first."""
    cdef int count = 0
    cdef const Kernel *found = kernels(&count)
    return tuple(found[i].name.decode() for i in range(count))


cdef PackedModel _model(
    const int32_t[:, :, :, ::1] shape_basis,
    const int32_t[:, :, :, ::1] expression_basis,
    Py_ssize_t vertices,
) except *:
    cdef PackedModel model
    model.shapes = shape_basis.shape[1]
    model.expressions = expression_basis.shape[1]
    model.shape_basis = NULL
    if model.shapes:
        model.shape_basis = &shape_basis[0, 0, 0, 0]
    model.expression_basis = NULL
    if model.expressions:
        model.expression_basis = &expression_basis[0, 0, 0, 0]
    model.vertices = vertices
    return model


def reconstruct(
    int kernel,
    list bases,
    const int32_t[:, :, :, ::1] shape_basis,
    const int32_t[:, :, :, ::1] expression_basis,
    const float[:, ::1] shapes,
    const float[:, ::1] expressions,
    const float[:, :, ::1] cameras,
    float[:, :, ::1] out,
    float[::1] min_z,
    bint held,
    bint z_from_zero,
):
    """Fill `out` (f, n, 3) and `min_z` (f,); `bases` are packed float arrays, one a face."""
    cdef Py_ssize_t faces = out.shape[0], face
    cdef PackedModel model = _model(shape_basis, expression_basis, out.shape[1])
    cdef const float[:, :, ::1] base
    cdef int count = 0
    cdef const Kernel *chosen = kernels(&count) + kernel
    cdef vector[FaceJob] jobs
    jobs.resize(faces)
    for face in range(faces):
        base = bases[face]
        jobs[face].base = &base[0, 0, 0]
        jobs[face].shape = NULL
        if model.shapes and not held:
            jobs[face].shape = &shapes[face, 0]
        jobs[face].expression = NULL
        if model.expressions:
            jobs[face].expression = &expressions[face, 0]
        jobs[face].camera = &cameras[face, 0, 0]
        jobs[face].out = &out[face, 0, 0]
    with nogil:
        chosen.reconstruct(model, jobs.data(), faces, held, z_from_zero)
    for face in range(faces):
        min_z[face] = jobs[face].min_z


def hold(
    int kernel,
    const float[:, :, ::1] base,
    const int32_t[:, :, :, ::1] shape_basis,
    const float[::1] shape,
    Py_ssize_t vertices,
    float[:, :, ::1] out,
):
    """Fill the packed `out` with `base` and the shape's part."""
    cdef PackedModel model = _model(shape_basis, shape_basis, vertices)
    cdef int count = 0
    cdef const Kernel *chosen = kernels(&count) + kernel
    cdef const float *coefficients = NULL
    if model.shapes:
        coefficients = &shape[0]
    with nogil:
        chosen.hold(model, &base[0, 0, 0], coefficients, &out[0, 0, 0])
