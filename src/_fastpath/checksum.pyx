# cython: language_level=3, boundscheck=False, wraparound=False
"""The Internet checksum in C. Import it through kubeedge.wire_format.checksum."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef extern from "packet/checksum.h" nogil:
    uint16_t kb_ones_sum(const uint8_t *data, size_t length, uint32_t initial)


def ones_sum(data not None, uint32_t initial=0, /):
    cdef Py_buffer view
    cdef uint16_t result
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    result = kb_ones_sum(<const uint8_t *> view.buf, view.len, initial)
    PyBuffer_Release(&view)
    return result


def repeated(data not None, int times):
    """For bench/checksum: the sum of `data`, computed `times` times without the GIL, each on top of the one before."""
    cdef Py_buffer view
    cdef uint16_t result = 0
    cdef int i
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    with nogil:
        for i in range(times):
            result = kb_ones_sum(<const uint8_t *> view.buf, view.len, result)
    PyBuffer_Release(&view)
    return result
