# C types for _plain_zip.py, and nothing else: the meaning stands in the .py file alone.
cimport cython

cdef long long NEAR, WINDOW, SLACK, LARGEST, DEEPEST

@cython.locals(low=cython.longlong, high=cython.longlong)
cdef long long _u16(const unsigned char[::1] data, long long p) except? -7
@cython.locals(low=cython.longlong, high=cython.longlong)
cdef long long _u32(const unsigned char[::1] data, long long p) except? -7
@cython.locals(first=cython.longlong, c=cython.longlong)
cdef bint _ordinary(const unsigned char[::1] data, long long p, long long end) except -1
@cython.locals(count=cython.longlong)
cdef bint _component(const unsigned char[::1] data, long long first, long long end) except -1
@cython.locals(i=cython.longlong)
cdef bint _padding(const unsigned char[::1] data, long long p, long long count) except -1
@cython.locals(i=cython.longlong)
cdef bint _equal(const unsigned char[::1] left, long long p, const unsigned char[::1] right, long long q, long long count) except -1

cdef bint _lower(const unsigned char[::1] data, long long p, long long end) except -1
@cython.locals(regions=list, keys=set, known=tuple, element=tuple, numel=cython.longlong, key=str)
cpdef plain_storages(list ids, dict elements, dict records)

cdef class Plain:
    cdef const unsigned char[::1] directory, bytes
    cdef bytes text
    cdef long long stop, most, first, behind
    cdef object fetch, outer

    @cython.locals(data="const unsigned char[::1]", far=cython.longlong, count=cython.longlong, offset=cython.longlong)
    cdef window(self, long long start, long long end, long long p)
    @cython.locals(data="const unsigned char[::1]", local="const unsigned char[::1]", text=bytes, members=list, keys=set,
                   n=cython.longlong, p=cython.longlong, position=cython.longlong, count=cython.longlong, flags=cython.longlong,
                   crc=cython.longlong, size=cython.longlong, length=cython.longlong, offset=cython.longlong, attributes=cython.longlong,
                   name=cython.longlong, at=cython.longlong, extra=cython.longlong, here=cython.longlong, packed=cython.longlong,
                   unpacked=cython.longlong, pending=cython.bint, lower=cython.bint, first=cython.longlong)
    cpdef read(self)
