# cython: language_level=3
"""Zstandard streams (RFC 8878), read by the library that Debian's package manager itself needs: libzstd.so.1, loaded when it is used first.

Only its stable interface is used. Memory is bounded by the window that a frame may ask for. Decompression releases the GIL.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stddef cimport size_t


cdef extern from * nogil:
    """
    #include <dlfcn.h>
    #include <stddef.h>

    typedef struct { const void *src; size_t size; size_t pos; } kb_zstd_in;
    typedef struct { void *dst; size_t size; size_t pos; } kb_zstd_out;
    enum { KB_ZSTD_WINDOW_LOG_MAX = 100 }; /* ZSTD_d_windowLogMax */

    static void *(*kb_zstd_create)(void);
    static size_t (*kb_zstd_free)(void *);
    static size_t (*kb_zstd_set)(void *, int, int);
    static size_t (*kb_zstd_run)(void *, kb_zstd_out *, kb_zstd_in *);
    static unsigned (*kb_zstd_is_error)(size_t);
    static const char *(*kb_zstd_error_name)(size_t);

    static int kb_zstd_load(void)
    {
        void *library;
        if (kb_zstd_run)
            return 1;
        library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
        if (!library)
            return 0;
        kb_zstd_create = (void *(*)(void))dlsym(library, "ZSTD_createDCtx");
        kb_zstd_free = (size_t (*)(void *))dlsym(library, "ZSTD_freeDCtx");
        kb_zstd_set = (size_t (*)(void *, int, int))dlsym(library, "ZSTD_DCtx_setParameter");
        kb_zstd_is_error = (unsigned (*)(size_t))dlsym(library, "ZSTD_isError");
        kb_zstd_error_name = (const char *(*)(size_t))dlsym(library, "ZSTD_getErrorName");
        if (!kb_zstd_create || !kb_zstd_free || !kb_zstd_set || !kb_zstd_is_error || !kb_zstd_error_name)
            return 0;
        kb_zstd_run = (size_t (*)(void *, kb_zstd_out *, kb_zstd_in *))dlsym(library, "ZSTD_decompressStream");
        return kb_zstd_run != NULL;
    }

    static void *kb_zstd_new(int window_log)
    {
        void *context = kb_zstd_create();
        if (context && kb_zstd_is_error(kb_zstd_set(context, KB_ZSTD_WINDOW_LOG_MAX, window_log))) {
            kb_zstd_free(context);
            return NULL;
        }
        return context;
    }

    static size_t kb_zstd_step(void *context, void *dst, size_t room, size_t *made, const void *src, size_t size, size_t *used)
    {
        kb_zstd_in in = {src, size, *used};
        kb_zstd_out out = {dst, room, 0};
        size_t hint = kb_zstd_run(context, &out, &in);
        *made = out.pos;
        *used = in.pos;
        return hint;
    }
    static void kb_zstd_delete(void *context) { kb_zstd_free(context); }
    static int kb_zstd_failed(size_t code) { return (int)kb_zstd_is_error(code); }
    static const char *kb_zstd_why(size_t code) { return kb_zstd_error_name(code); }
    """
    int kb_zstd_load()
    void *kb_zstd_new(int window_log)
    void kb_zstd_delete(void *context)
    size_t kb_zstd_step(void *context, void *dst, size_t room, size_t *made, const void *src, size_t size, size_t *used)
    int kb_zstd_failed(size_t code)
    const char *kb_zstd_why(size_t code)


def available():
    """Whether the library is on this machine."""
    return bool(kb_zstd_load())


cdef class Decompressor:
    """One stream of frames. `window_log`: frames that need a window of more than 2 to this power of bytes are refused."""

    cdef void *_context
    cdef bytes _input
    cdef size_t _used
    cdef bint _whole

    def __cinit__(self, int window_log=23):
        self._context = NULL
        self._input = b""
        self._used = 0
        self._whole = True
        if not kb_zstd_load():
            raise OSError("libzstd.so.1 is not on this machine")
        self._context = kb_zstd_new(window_log)
        if self._context == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self._context != NULL:
            kb_zstd_delete(self._context)

    @property
    def needs_input(self):
        """All that was fed has been taken."""
        return self._used == <size_t> len(self._input)

    @property
    def whole(self):
        """The stream may end here: no frame is open."""
        return self._whole

    def feed(self, bytes data):
        """More of the stream; only when needs_input."""
        self._input = data
        self._used = 0

    def read(self, size_t limit):
        """At most `limit` bytes of what the input makes; b"" when more of it is needed. Raises ValueError for what is no such stream."""
        cdef bytearray out = bytearray(limit)
        cdef char *target = out
        cdef const char *source = PyBytes_AS_STRING(self._input)
        cdef size_t size = len(self._input), used = self._used, taken, made = 0, code
        with nogil:
            code = kb_zstd_step(self._context, target, limit, &made, source, size, &used)
        taken = used - self._used
        self._used = used
        if kb_zstd_failed(code):
            raise ValueError(kb_zstd_why(code).decode())
        if made or taken:  # else it says how much the next frame would need
            self._whole = code == 0
        return bytes(memoryview(out)[:made])
