/* A keyed fingerprint of bytes, for `safeload.hashing.fingerprint`: whether two processes hold the same bytes, at the speed of memory.
 *
 * Of every 1,024 bytes NH is taken twice with a key that was shifted by 16 bytes, and each of the two results goes into a polynomial
 * over the field of 2^61 - 1 elements. Two different byte strings of one length, chosen by somebody who does not know the key, come
 * out alike with a chance of about 2^-64. Source: Black, Halevi, Krawczyk, Krovetz and Rogaway, "UMAC: Fast and Secure Message
 * Authentication", sections 3 and 4, for NH and its second pass. It is no hash: whoever knows the key can find bytes that agree.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if !defined(__SIZEOF_INT128__) || !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "needs 128-bit products and little-endian words; without this file every process hashes for itself"
#endif

#define BLOCK 1024                       /* bytes */
#define WORDS (BLOCK / 4)
#define SHIFT 4                          /* words between the keys of the two passes */
#define KEY ((WORDS + SHIFT) * 4 + 16)   /* bytes: words for NH, and a point of each polynomial */
#define STATE 16                         /* bytes: a value of each polynomial */

static const uint64_t P = ((uint64_t)1 << 61) - 1;

static uint64_t reduced(unsigned __int128 product) {
    uint64_t sum = (uint64_t)(product & P) + (uint64_t)(product >> 61);
    return sum >= P ? sum - P : sum;
}

static uint64_t went_on(uint64_t value, uint64_t point, uint64_t nh) {
    value = reduced((unsigned __int128)value * point + (nh & 0xffffffff));
    return reduced((unsigned __int128)value * point + (nh >> 32));
}

/* Words are multiplied with those four further on, so that a compiler finds four products side by side. */
static inline __attribute__((always_inline)) void absorb_any(uint64_t *restrict state, const uint32_t *restrict key, const uint64_t *restrict points, const uint8_t *data, size_t blocks) {
    for (; blocks; blocks--, data += BLOCK) {
        uint64_t first[4] = {0, 0, 0, 0}, second[4] = {0, 0, 0, 0};
        for (int at = 0; at < WORDS; at += 8) {
            uint32_t word[8];
            memcpy(word, data + 4 * at, sizeof word);
            for (int lane = 0; lane < 4; lane++) {
                const uint32_t *k = key + at + lane;
                first[lane] += (uint64_t)(uint32_t)(word[lane] + k[0]) * (uint32_t)(word[lane + 4] + k[4]);
                second[lane] += (uint64_t)(uint32_t)(word[lane] + k[SHIFT]) * (uint32_t)(word[lane + 4] + k[4 + SHIFT]);
            }
        }
        state[0] = went_on(state[0], points[0], first[0] + first[1] + first[2] + first[3]);
        state[1] = went_on(state[1], points[1], second[0] + second[1] + second[2] + second[3]);
    }
}

static void absorb_plain(uint64_t *state, const uint32_t *key, const uint64_t *points, const uint8_t *data, size_t blocks) {
    absorb_any(state, key, points, data, blocks);
}

static void (*absorb_blocks)(uint64_t *, const uint32_t *, const uint64_t *, const uint8_t *, size_t) = absorb_plain;

#if defined(__x86_64__) || defined(__amd64__)
static __attribute__((target("avx2"))) void absorb_avx2(
    uint64_t *state, const uint32_t *key, const uint64_t *points, const uint8_t *data, size_t blocks) {
    absorb_any(state, key, points, data, blocks);
}

static void look(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) absorb_blocks = absorb_avx2;
}
#else
static void look(void) {}
#endif

static PyObject *absorb(PyObject *self, PyObject *args) {
    Py_buffer state, key, view;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "w*y*y*:absorb", &state, &key, &view)) return NULL;
    if (state.len != STATE || key.len != KEY) {
        PyErr_Format(PyExc_ValueError, "a state has %d bytes and a key %d", STATE, KEY);
    } else {
        uint64_t values[2], points[2];
        uint32_t words[WORDS + SHIFT];
        uint8_t tail[BLOCK];
        size_t blocks = (size_t)view.len / BLOCK, rest = (size_t)view.len % BLOCK;
        memcpy(values, state.buf, sizeof values);
        memcpy(words, key.buf, sizeof words);
        memcpy(points, (const uint8_t *)key.buf + sizeof words, sizeof points);
        for (int pass = 0; pass < 2; pass++) points[pass] = points[pass] % P;
        Py_BEGIN_ALLOW_THREADS
        absorb_blocks(values, words, points, view.buf, blocks);
        if (rest) {
            memset(tail, 0, sizeof tail);
            memcpy(tail, (const uint8_t *)view.buf + blocks * BLOCK, rest);
            absorb_blocks(values, words, points, tail, 1);
        }
        Py_END_ALLOW_THREADS
        memcpy(state.buf, values, sizeof values);
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&view);
    PyBuffer_Release(&key);
    PyBuffer_Release(&state);
    return result;
}

static PyMethodDef methods[] = {
    {"absorb", absorb, METH_VARARGS, "absorb(state, key, view): go on with whole blocks of 1,024 bytes; the last one is filled up with zeros."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_fingerprint_c", "Keyed fingerprints; see safeload.hashing.fingerprint.", -1, methods};

PyMODINIT_FUNC PyInit__fingerprint_c(void) {
    look();
    return PyModule_Create(&module);
}
