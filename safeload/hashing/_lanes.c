/* SHA-256 of several byte strings at once, for `safeload.hashing`.
 *
 * One SHA-256 is a chain: each block waits for the one before. A processor that could do more is idle meanwhile. Leaves of a file
 * are independent of each other, so their chains can advance side by side: sixteen in the lanes of AVX-512 registers, or two through
 * the SHA instructions. Source of the function: FIPS 180-4, sections 4.1.2, 4.2.2 and 6.2.2.
 *
 * Only whole blocks are compressed here. Initial values, padding and the choice of what to hash are Python's, which also compares
 * this code with hashlib before it is used (docs/decisions/0009). No length is computed from file content in this file.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MOST 64            /* lanes of one call */
#define BLOCK 64           /* bytes */
#define STATE 32           /* bytes: eight 32-bit words, as the machine has them */

#if (defined(__x86_64__) || defined(__amd64__)) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_KERNELS 1
#include <cpuid.h>
#include <immintrin.h>
#include <time.h>

static const uint32_t K[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* ---- sixteen lanes: one word of sixteen states in a register */

#define WIDE __attribute__((target("avx512f,avx512bw")))
typedef __m512i V;
#define ADD _mm512_add_epi32
#define XOR3(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CH(e, f, g) _mm512_ternarylogic_epi32(e, f, g, 0xca)
#define MAJ(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xe8)
#define SUM0(x) XOR3(_mm512_ror_epi32(x, 2), _mm512_ror_epi32(x, 13), _mm512_ror_epi32(x, 22))
#define SUM1(x) XOR3(_mm512_ror_epi32(x, 6), _mm512_ror_epi32(x, 11), _mm512_ror_epi32(x, 25))
#define SIG0(x) XOR3(_mm512_ror_epi32(x, 7), _mm512_ror_epi32(x, 18), _mm512_srli_epi32(x, 3))
#define SIG1(x) XOR3(_mm512_ror_epi32(x, 17), _mm512_ror_epi32(x, 19), _mm512_srli_epi32(x, 10))

/* Sixteen rows of sixteen words become sixteen columns. */
WIDE static inline void turn(V r[16]) {
    V t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

#define ROUND(a, b, c, d, e, f, g, h, r)                                                                                    \
    do {                                                                                                                    \
        V t1 = ADD(ADD(h, SUM1(e)), ADD(CH(e, f, g), ADD(_mm512_set1_epi32((int)K[r]), w[(r) & 15])));                      \
        d = ADD(d, t1);                                                                                                     \
        h = ADD(t1, ADD(SUM0(a), MAJ(a, b, c)));                                                                            \
        if ((r) < 48)                                                                                                       \
            w[(r) & 15] = ADD(ADD(w[(r) & 15], SIG0(w[((r) + 1) & 15])), ADD(w[((r) + 9) & 15], SIG1(w[((r) + 14) & 15]))); \
    } while (0)
#define ROUNDS(r)                               \
    do {                                        \
        ROUND(a, b, c, d, e, f, g, h, (r));     \
        ROUND(h, a, b, c, d, e, f, g, (r) + 1); \
        ROUND(g, h, a, b, c, d, e, f, (r) + 2); \
        ROUND(f, g, h, a, b, c, d, e, (r) + 3); \
        ROUND(e, f, g, h, a, b, c, d, (r) + 4); \
        ROUND(d, e, f, g, h, a, b, c, (r) + 5); \
        ROUND(c, d, e, f, g, h, a, b, (r) + 6); \
        ROUND(b, c, d, e, f, g, h, a, (r) + 7); \
    } while (0)

/* Advance `lanes` (at most 16) states of 32 bytes, each by `blocks` blocks of its own data. */
WIDE static void sixteen(uint8_t *states, const uint8_t *const *data, int lanes, size_t blocks) {
    const V swap = _mm512_broadcast_i32x4(_mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203));
    uint32_t rows[8][16] __attribute__((aligned(64))) = {{0}};
    const uint8_t *p[16];
    V s[8];
    for (int lane = 0; lane < 16; lane++) {
        p[lane] = data[lane < lanes ? lane : 0]; /* lanes without work repeat the first one's, and are dropped */
        for (int word = 0; word < 8 && lane < lanes; word++)
            memcpy(&rows[word][lane], states + lane * STATE + word * 4, 4);
    }
    for (int word = 0; word < 8; word++) s[word] = _mm512_load_si512(rows[word]);
    for (size_t block = 0; block < blocks; block++) {
        V w[16];
        V a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        for (int lane = 0; lane < 16; lane++) {
            w[lane] = _mm512_shuffle_epi8(_mm512_loadu_si512(p[lane] + block * BLOCK), swap);
            _mm_prefetch((const char *)p[lane] + block * BLOCK + 512, _MM_HINT_T0);
        }
        turn(w);
        ROUNDS(0);
        ROUNDS(8);
        ROUNDS(16);
        ROUNDS(24);
        ROUNDS(32);
        ROUNDS(40);
        ROUNDS(48);
        ROUNDS(56);
        s[0] = ADD(s[0], a);
        s[1] = ADD(s[1], b);
        s[2] = ADD(s[2], c);
        s[3] = ADD(s[3], d);
        s[4] = ADD(s[4], e);
        s[5] = ADD(s[5], f);
        s[6] = ADD(s[6], g);
        s[7] = ADD(s[7], h);
    }
    for (int word = 0; word < 8; word++) _mm512_store_si512(rows[word], s[word]);
    for (int lane = 0; lane < lanes; lane++)
        for (int word = 0; word < 8; word++) memcpy(states + lane * STATE + word * 4, &rows[word][lane], 4);
}

/* ---- two lanes through the SHA instructions, which keep words as (ABEF, CDGH) */

#define NARROW __attribute__((target("sha,sse4.1,ssse3")))

/* `lanes` is 1 or 2 and known where this is compiled: each has its own code. */
NARROW static inline __attribute__((always_inline)) void narrow(
    uint8_t *states, const uint8_t *const *data, const int lanes, size_t blocks) {
    const __m128i swap = _mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    __m128i x[2], y[2];
    for (int lane = 0; lane < lanes; lane++) {
        const uint8_t *state = states + lane * STATE;
        __m128i first = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xB1);         /* CDAB */
        __m128i second = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 16)), 0x1B); /* EFGH */
        x[lane] = _mm_alignr_epi8(first, second, 8);                                              /* ABEF */
        y[lane] = _mm_blend_epi16(second, first, 0xF0);                                           /* CDGH */
    }
    for (size_t block = 0; block < blocks; block++) {
        __m128i w[2][4], x0[2], y0[2];
        for (int lane = 0; lane < lanes; lane++) {
            x0[lane] = x[lane];
            y0[lane] = y[lane];
            for (int part = 0; part < 4; part++)
                w[lane][part] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data[lane] + block * BLOCK + part * 16)), swap);
        }
#pragma GCC unroll 16
        for (int four = 0; four < 16; four++) {
            const __m128i k = _mm_load_si128((const __m128i *)&K[four * 4]);
#pragma GCC unroll 2
            for (int lane = 0; lane < lanes; lane++) {
                __m128i wk = _mm_add_epi32(w[lane][four & 3], k);
                y[lane] = _mm_sha256rnds2_epu32(y[lane], x[lane], wk);
                wk = _mm_shuffle_epi32(wk, 0x0E);
                x[lane] = _mm_sha256rnds2_epu32(x[lane], y[lane], wk);
                if (four < 12) {
                    __m128i next = _mm_sha256msg1_epu32(w[lane][four & 3], w[lane][(four + 1) & 3]);
                    next = _mm_add_epi32(next, _mm_alignr_epi8(w[lane][(four + 3) & 3], w[lane][(four + 2) & 3], 4));
                    w[lane][four & 3] = _mm_sha256msg2_epu32(next, w[lane][(four + 3) & 3]);
                }
            }
        }
        for (int lane = 0; lane < lanes; lane++) {
            x[lane] = _mm_add_epi32(x[lane], x0[lane]);
            y[lane] = _mm_add_epi32(y[lane], y0[lane]);
        }
    }
    for (int lane = 0; lane < lanes; lane++) {
        __m128i first = _mm_shuffle_epi32(x[lane], 0x1B);  /* FEBA */
        __m128i second = _mm_shuffle_epi32(y[lane], 0xB1); /* DCHG */
        _mm_storeu_si128((__m128i *)(states + lane * STATE), _mm_blend_epi16(first, second, 0xF0));
        _mm_storeu_si128((__m128i *)(states + lane * STATE + 16), _mm_alignr_epi8(second, first, 8));
    }
}

NARROW static void one(uint8_t *states, const uint8_t *const *data, size_t blocks) { narrow(states, data, 1, blocks); }
NARROW static void two(uint8_t *states, const uint8_t *const *data, size_t blocks) { narrow(states, data, 2, blocks); }

/* ---- which of them this processor has, and from how many lanes on the wide one is the faster */

static int has_wide, has_narrow, wide_from;

static double taken(int wide, const uint8_t *data) {
    uint8_t states[16 * STATE] = {0};
    const uint8_t *p[16];
    double best = 1e9;
    for (int lane = 0; lane < 16; lane++) p[lane] = data + lane * 1024;
    for (int turn_ = 0; turn_ < 4; turn_++) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        if (wide)
            sixteen(states, p, 16, 16);
        else
            for (int lane = 0; lane < 16; lane += 2) two(states + lane * STATE, p + lane, 16);
        clock_gettime(CLOCK_MONOTONIC, &to);
        double seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
        if (seconds < best) best = seconds;
    }
    return best;
}

static void look(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    __builtin_cpu_init();
    has_wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    has_narrow = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) && __builtin_cpu_supports("sse4.1");
    wide_from = has_wide ? 1 : MOST + 1;
    if (has_wide && has_narrow) {
        static const uint8_t data[16 * 1024 + 1024];
        double wide = taken(1, data), narrow = taken(0, data); /* both for sixteen lanes */
        int from = (int)(16.0 * wide / narrow + 0.999);
        wide_from = from < 2 ? 2 : from > 16 ? MOST + 1 : from;
    }
}

static void compress(uint8_t *states, const uint8_t *const *data, int lanes, size_t blocks) {
    while (lanes > 0) {
        int some = lanes >= wide_from || !has_narrow ? (lanes < 16 ? lanes : 16) : (lanes < 2 ? lanes : 2);
        if (some > 2 || !has_narrow)
            sixteen(states, data, some, blocks);
        else if (some == 2)
            two(states, data, blocks);
        else
            one(states, data, blocks);
        states += some * STATE;
        data += some;
        lanes -= some;
    }
}
#else
static int has_wide, has_narrow;
static void look(void) {}
static void compress(uint8_t *states, const uint8_t *const *data, int lanes, size_t blocks) {}
#endif

static PyObject *width(PyObject *self, PyObject *unused) {
    return PyLong_FromLong(has_wide ? 16 : has_narrow ? 2 : 0);
}

static PyObject *advance(PyObject *self, PyObject *args) {
    Py_buffer states, views[MOST];
    const uint8_t *data[MOST];
    PyObject *given, *list = NULL, *result = NULL;
    Py_ssize_t nbytes, count = 0, held = 0;
    if (!PyArg_ParseTuple(args, "w*On:advance", &states, &given, &nbytes)) return NULL;
    list = PySequence_Fast(given, "views: a sequence of buffers");
    if (list == NULL) goto done;
    count = PySequence_Fast_GET_SIZE(list);
    if (!(has_wide || has_narrow) || count > MOST || states.len != count * STATE || nbytes < 0 || nbytes % BLOCK) {
        PyErr_SetString(PyExc_ValueError, "one state of 32 bytes for each of at most 64 views, and whole blocks");
        goto done;
    }
    for (; held < count; held++) {
        if (PyObject_GetBuffer(PySequence_Fast_GET_ITEM(list, held), &views[held], PyBUF_SIMPLE)) goto done;
        data[held] = views[held].buf;
        if (views[held].len < nbytes) {
            held++;
            PyErr_SetString(PyExc_ValueError, "a view is shorter than what is to be hashed of it");
            goto done;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    compress(states.buf, data, (int)count, (size_t)nbytes / BLOCK);
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    while (held > 0) PyBuffer_Release(&views[--held]);
    Py_XDECREF(list);
    PyBuffer_Release(&states);
    return result;
}

static PyMethodDef methods[] = {
    {"width", width, METH_NOARGS, "How many byte strings this processor hashes at once: 16, 2, or 0 for none."},
    {"advance", advance, METH_VARARGS, "advance(states, views, nbytes): compress the first nbytes bytes of each view into its state."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_lanes_c", "SHA-256 in lanes; see safeload.hashing.", -1, methods};

PyMODINIT_FUNC PyInit__lanes_c(void) {
    look();
    return PyModule_Create(&module);
}
