/* Elements in another order, for `safeload.conversion.gather`: one block of a strided view that lies in memory.
 *
 * Of all dimensions two matter for the speed: along one the elements lie closest together where they are read, along the other where they
 * are written. Where these are two, the block is copied in tiles of both, so that every line of memory that was fetched is used up before
 * it leaves the cache; everything else counts up around them.
 *
 * Sizes and steps come from a file: what a block reaches is computed here with checked arithmetic, and compared with what is there.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MOST 80 /* dimensions */
#define TILE 16 /* elements each way: at 4 bytes a line of the cache each */

typedef struct {
    Py_ssize_t size, from, to; /* elements, and elements per step on either side */
} Dim;

/* One line: n elements with their steps. */
#define LINE(T)                                                                                                             \
    static void line_##T(uint8_t *out, const uint8_t *in, Py_ssize_t n, Py_ssize_t from, Py_ssize_t to) {                   \
        if (from == 1 && to == 1) {                                                                                         \
            memcpy(out, in, (size_t)n * sizeof(T));                                                                         \
            return;                                                                                                         \
        }                                                                                                                   \
        from *= (Py_ssize_t)sizeof(T), to *= (Py_ssize_t)sizeof(T);                                                         \
        for (Py_ssize_t i = 0; i < n; i++) memcpy(out + i * to, in + i * from, sizeof(T));                                  \
    }                                                                                                                       \
    static void plane_##T(uint8_t *out, const uint8_t *in, Dim a, Dim b) {                                                  \
        Py_ssize_t most = b.from <= a.from || a.size == 1 ? b.size : TILE; /* lines as they are, or tiles */                \
        for (Py_ssize_t i = 0; i < a.size; i += TILE)                                                                       \
            for (Py_ssize_t j = 0; j < b.size; j += most) {                                                                 \
                Py_ssize_t rows = a.size - i < TILE ? a.size - i : TILE, columns = b.size - j < most ? b.size - j : most;   \
                for (Py_ssize_t r = i; r < i + rows; r++)                                                                   \
                    line_##T(out + (r * a.to + j * b.to) * (Py_ssize_t)sizeof(T),                                           \
                             in + (r * a.from + j * b.from) * (Py_ssize_t)sizeof(T), columns, b.from, b.to);                \
            }                                                                                                               \
    }
LINE(uint8_t)
LINE(uint16_t)
LINE(uint32_t)
LINE(uint64_t)

/* Count up all but the last two dimensions, which are a plane; `a` has its elements close together in `in`, `b` in `out`. */
static void block(uint8_t *out, const uint8_t *in, Dim *dims, int count, int itemsize) {
    Py_ssize_t at[MOST] = {0};
    Dim a = dims[count - 2], b = dims[count - 1];
    int outer = count - 2;
    for (;;) {
        switch (itemsize) {
        case 1: plane_uint8_t(out, in, a, b); break;
        case 2: plane_uint16_t(out, in, a, b); break;
        case 4: plane_uint32_t(out, in, a, b); break;
        default: plane_uint64_t(out, in, a, b); break;
        }
        int d = outer - 1;
        for (; d >= 0; d--) {
            if (++at[d] < dims[d].size) {
                out += dims[d].to * itemsize;
                in += dims[d].from * itemsize;
                break;
            }
            out -= (dims[d].size - 1) * dims[d].to * itemsize;
            in -= (dims[d].size - 1) * dims[d].from * itemsize;
            at[d] = 0;
        }
        if (d < 0) return;
    }
}

/* Move a dimension to the end. */
static void last(Dim *dims, int count, int which) {
    Dim chosen = dims[which];
    memmove(dims + which, dims + which + 1, (size_t)(count - 1 - which) * sizeof(Dim));
    dims[count - 1] = chosen;
}

/* The dimension with the smallest step on one side; one that stands still is none. */
static int closest(const Dim *dims, int count, int reading) {
    int best = -1;
    for (int d = 0; d < count; d++) {
        Py_ssize_t step = reading ? dims[d].from : dims[d].to;
        if (step > 0 && (best < 0 || step < (reading ? dims[best].from : dims[best].to))) best = d;
    }
    return best;
}

static int order(Dim *dims, int count) {
    const Dim one = {1, 0, 0};
    int reading, writing;
    while (count < 2) dims[count++] = one;
    writing = closest(dims, count, 0);
    last(dims, count, writing < 0 ? 0 : writing);
    reading = closest(dims, count - 1, 1);
    /* Where both sides have the same one, the other is as good as any. */
    last(dims, count - 1, reading < 0 ? 0 : reading);
    return count;
}

/* Whether the last element of a block lies within `nbytes`, counted from element `first`. */
static int inside(Py_ssize_t first, const Dim *dims, int count, int reading, int itemsize, Py_ssize_t nbytes) {
    Py_ssize_t end = first, reach;
    if (first < 0) return 0;
    for (int d = 0; d < count; d++) {
        Py_ssize_t step = reading ? dims[d].from : dims[d].to;
        if (dims[d].size < 1 || step < 0 || __builtin_mul_overflow(dims[d].size - 1, step, &reach) ||
            __builtin_add_overflow(end, reach, &end))
            return 0;
    }
    return end < nbytes / itemsize;
}

static PyObject *copy(PyObject *self, PyObject *args) {
    Py_buffer out, data;
    PyObject *given, *list = NULL, *result = NULL;
    Py_ssize_t at, count = 0;
    int itemsize;
    Dim dims[MOST];
    if (!PyArg_ParseTuple(args, "w*ny*Oi:copy", &out, &at, &data, &given, &itemsize)) return NULL;
    list = PySequence_Fast(given, "dims: a sequence of size, step and step in the output");
    if (list == NULL) goto done;
    count = PySequence_Fast_GET_SIZE(list);
    if (count > MOST - 2 || (itemsize != 1 && itemsize != 2 && itemsize != 4 && itemsize != 8)) {
        PyErr_Format(PyExc_ValueError, "at most %d dimensions, of elements of 1, 2, 4 or 8 bytes", MOST - 2);
        goto done;
    }
    for (Py_ssize_t d = 0; d < count; d++) {
        PyObject *dim = PySequence_Fast_GET_ITEM(list, d);
        if (!PyTuple_Check(dim) || !PyArg_ParseTuple(dim, "nnn:copy", &dims[d].size, &dims[d].from, &dims[d].to)) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a dimension is a tuple of three numbers");
            goto done;
        }
    }
    if (!inside(at, dims, (int)count, 0, itemsize, out.len) || !inside(0, dims, (int)count, 1, itemsize, data.len)) {
        PyErr_SetString(PyExc_ValueError, "the block leaves its memory");
        goto done;
    }
    count = order(dims, (int)count);
    Py_BEGIN_ALLOW_THREADS
    block((uint8_t *)out.buf + at * itemsize, data.buf, dims, (int)count, itemsize);
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    Py_XDECREF(list);
    PyBuffer_Release(&data);
    PyBuffer_Release(&out);
    return result;
}

static PyMethodDef methods[] = {
    {"copy", copy, METH_VARARGS, "copy(out, at, data, dims, itemsize): elements of data, by (size, step, step in out), to out from element at on."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_gather_c", "Strided copies; see safeload.conversion.gather.", -1, methods};

PyMODINIT_FUNC PyInit__gather_c(void) { return PyModule_Create(&module); }
