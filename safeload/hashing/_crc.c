/* CRC-32 by carry-less multiplication, for `safeload.hashing.crc`.
 *
 * zlib's CRC-32 looks up tables; on a processor that multiplies polynomials it costs as much as the SHA-256 beside it, or a third of
 * that. Here 64 bytes stand in four registers, and each is carried over the next 64 by two products with powers of x modulo the CRC's
 * polynomial P. What is left at the end, 16 bytes with the same remainder as all of the text, goes through a table, and the last bytes
 * behind it. The method is from V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009).
 *
 * Python compares this code with zlib before it is used. No length is computed from file content in this file.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define POLYNOMIAL 0xEDB88320u /* P without its highest term, lowest power in the highest bit */
#define WORTH_IT 64
#define RELEASE 16384 /* bytes: below that other threads would wait longer for the change than for us */

#if (defined(__x86_64__) || defined(__amd64__)) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_KERNEL 1
#include <immintrin.h>

static uint32_t table[256];
static uint64_t over_64[2], over_16[2]; /* what carries a register's two halves over that many bytes */
static int usable;

/* x to the power of n modulo P, as a factor: the product of two reflected polynomials is one bit short. */
static uint64_t power(int n) {
    uint32_t value = 0x80000000u;
    while (n-- > 0) value = (value >> 1) ^ (value & 1 ? POLYNOMIAL : 0);
    return (uint64_t)value << 1;
}

static void look(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ (value & 1 ? POLYNOMIAL : 0);
        table[byte] = value;
    }
    over_64[0] = power(64 * 8 + 32), over_64[1] = power(64 * 8 - 32);
    over_16[0] = power(16 * 8 + 32), over_16[1] = power(16 * 8 - 32);
    __builtin_cpu_init();
    usable = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

static uint32_t by_table(uint32_t value, const uint8_t *data, size_t nbytes) {
    while (nbytes-- > 0) value = table[(value ^ *data++) & 0xff] ^ (value >> 8);
    return value;
}

#define FOLDING __attribute__((target("pclmul,sse4.1")))

FOLDING static inline __m128i carried(__m128i x, __m128i factors, __m128i next) {
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, factors, 0x00), _mm_clmulepi64_si128(x, factors, 0x11)), next);
}

#define AT(p, n) _mm_loadu_si128((const __m128i *)(p) + (n))

/* Of at least 64 bytes. */
FOLDING static uint32_t folded(uint32_t value, const uint8_t *data, size_t nbytes) {
    const __m128i far = AT(over_64, 0), near = AT(over_16, 0);
    uint8_t left[16];
    __m128i x0 = _mm_xor_si128(AT(data, 0), _mm_cvtsi32_si128((int)value)), x1 = AT(data, 1), x2 = AT(data, 2), x3 = AT(data, 3);
    for (data += 64, nbytes -= 64; nbytes >= 64; data += 64, nbytes -= 64) {
        x0 = carried(x0, far, AT(data, 0));
        x1 = carried(x1, far, AT(data, 1));
        x2 = carried(x2, far, AT(data, 2));
        x3 = carried(x3, far, AT(data, 3));
    }
    x0 = carried(carried(carried(x0, near, x1), near, x2), near, x3);
    for (; nbytes >= 16; data += 16, nbytes -= 16) x0 = carried(x0, near, AT(data, 0));
    _mm_storeu_si128((__m128i *)left, x0);
    return by_table(by_table(0, left, 16), data, nbytes);
}

static uint32_t crc(uint32_t value, const uint8_t *data, size_t nbytes) {
    return ~(nbytes >= WORTH_IT ? folded(~value, data, nbytes) : by_table(~value, data, nbytes));
}
#else
static int usable;
static void look(void) {}
static uint32_t crc(uint32_t value, const uint8_t *data, size_t nbytes) { return 0; }
#endif

static PyObject *available(PyObject *self, PyObject *unused) { return PyBool_FromLong(usable); }

static PyObject *crc32(PyObject *self, PyObject *args) {
    Py_buffer view;
    unsigned int value = 0;
    if (!PyArg_ParseTuple(args, "y*|I:crc32", &view, &value)) return NULL;
    if (!usable) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_RuntimeError, "this processor does not multiply polynomials");
        return NULL;
    }
    if (view.len < RELEASE) {
        value = crc(value, view.buf, (size_t)view.len);
    } else {
        Py_BEGIN_ALLOW_THREADS
        value = crc(value, view.buf, (size_t)view.len);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLong(value);
}

static PyMethodDef methods[] = {
    {"available", available, METH_NOARGS, "Whether this processor has the instructions."},
    {"crc32", crc32, METH_VARARGS, "crc32(data, value=0): as zlib.crc32."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_crc_c", "CRC-32; see safeload.hashing.crc.", -1, methods};

PyMODINIT_FUNC PyInit__crc_c(void) {
    look();
    return PyModule_Create(&module);
}
