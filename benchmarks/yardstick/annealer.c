/* The annealer once more in plain C, to race the compiled Python against what a C compiler makes of the same loops.
 *
 *   cc -O3 -march=native -ffast-math annealer.c -o annealer -lm
 *   ./annealer [size] [sweeps]        one JSON line: million site updates a second on one core, and energies
 *
 * Heisenberg exchange J = 1 and interfacial DMI D = 0.3 on a periodic size x size lattice, float32. Same method:
 * checkerboard; rejection-free heat bath, over-relaxation, zero-temperature alignment; Threefry-2x32-13 random
 * numbers of (key, sweep, site); rows of one colour; short loops a compiler can vectorise; sweeps that cross the
 * lattice as a wave, so that the rows in work stay in the cache.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAD 16       /* floats between rows: the periodic neighbours left and right live there */
#define TOGETHER 5   /* sweeps a wave */
#define MOST 2048    /* sites of one colour in a row */
#define D 0.3f
#define TINY 1e-30f

#ifdef __clang__ /* no iteration of a loop over a row reads what another writes */
#define ROW _Pragma("clang loop vectorize(assume_safety)") for
#else
#define ROW _Pragma("GCC ivdep") for
#endif

enum kind { HEAT_BATH, OVER_RELAX, ALIGN };

typedef struct {
    int size, half, pitch;
    float *spins; /* for every row and colour: an x, a y and a z row */
    uint32_t key[2];
} lattice;

static float u[MOST], hx[MOST], hy[MOST], hz[MOST], len[MOST], drop[MOST], cx[MOST], cy[MOST];
static int32_t v[MOST];

static float *row(const lattice *a, int r, int colour) { return a->spins + PAD + 3 * (size_t)a->pitch * (2 * r + colour); }

static void wrap(const lattice *a, float *s) {
    for (int c = 0; c < 3; c++, s += a->pitch) {
        s[-1] = s[a->half - 1];
        s[a->half] = s[0];
    }
}

/* ---- random numbers ---- */

#define ROUND(turn) x += y; y = (y << turn | y >> (32 - turn)) ^ x;

static void draw(const lattice *a, uint32_t sweep, uint32_t site) {
    const uint32_t k0 = a->key[0], k1 = a->key[1], k2 = k0 ^ k1 ^ 0x1BD11BDAu;
    const int half = a->half;
    ROW (int k = 0; k < half; k++) {
        uint32_t x = sweep + k0, y = site + 2 * (uint32_t)k + k1;
        ROUND(13) ROUND(15) ROUND(26) ROUND(6)
        x += k1; y += k2 + 1;
        ROUND(17) ROUND(29) ROUND(16) ROUND(24)
        x += k2; y += k0 + 2;
        ROUND(13) ROUND(15) ROUND(26) ROUND(6)
        x += k0; y += k1 + 3;
        ROUND(17)
        u[k] = (float)(int32_t)(x >> 8) * 0x1p-24f;
        v[k] = (int32_t)y;
    }
}

/* ---- functions ---- */

static inline float from_bits(int32_t i) { float f; memcpy(&f, &i, 4); return f; }
static inline int32_t bits(float f) { int32_t i; memcpy(&i, &f, 4); return i; }

static inline float one_minus_exp2(float x) { /* x <= 0 */
    x = x < -126.0f ? -126.0f : x;
    float n = rintf(x), f = x - n, s = from_bits((int32_t)(n + 127.0f) << 23);
    float p = 0.69314718f + f * (0.24022649f + f * (0.055503573f + f * (0.0096182376f + f * (0.0013390735f + f * 0.00015403512f))));
    return (1.0f - s) - s * (f * p);
}

static inline float minus_log1p_minus(float m) { /* 0 <= m < 1 */
    int32_t k = (bits(1.0f - m) - 0x3F3504F3) & (int32_t)0xFF800000;
    float scale = from_bits(0x3F800000 - k), f = (scale - 1.0f) - m * scale;
    float p = 0.99999994f + f * (-0.50000364f + f * (0.3333506f + f * (-0.24969909f + f * (0.19900166f + f * (-0.17250831f + f * (0.16222575f - f * 0.10106884f))))));
    return -f * p - (float)k * (0.69314718056f / 8388608.0f);
}

/* ---- loops over a row ---- */

static inline void bonds(const float * l, const float * t, const float * b, int p, int k,
                         float *x, float *y, float *z) {
    const float *q = l + p, *w = l + 2 * p, *tq = t + p, *tw = t + 2 * p, *bq = b + p, *bw = b + 2 * p;
    *x = (l[k] + l[k + 1]) + (t[k] + b[k]) + D * (w[k] - w[k + 1]);
    *y = (q[k] + q[k + 1]) + (tq[k] + bq[k]) + D * (bw[k] - tw[k]);
    *z = (w[k] + w[k + 1]) + (tw[k] + bw[k]) + D * ((l[k + 1] - l[k]) + (tq[k] - bq[k]));
}

static void heat_bath(const lattice *a, float * s, const float * l, const float * t,
                      const float * b, float T) {
    const int half = a->half, p = a->pitch;
    const float octaves = -2.0f * 1.44269504f / T;
    ROW (int k = 0; k < half; k++) {
        float x, y, z;
        bonds(l, t, b, p, k, &x, &y, &z);
        hx[k] = x; hy[k] = y; hz[k] = z;
        len[k] = sqrtf(x * x + y * y + z * z + TINY);
    }
    ROW (int k = 0; k < half; k++) u[k] *= one_minus_exp2(len[k] * octaves);
    ROW (int k = 0; k < half; k++) {
        float d = minus_log1p_minus(u[k]) * (T / len[k]);
        drop[k] = d < 2.0f ? d : 2.0f;
    }
    ROW (int k = 0; k < half; k++) { /* the azimuth, by way of half of it */
        float h = (float)(v[k] >> 8) * 0x1p-24f, q = h * h;
        float sn = h * (3.1415927f + q * (-5.1677098f + q * (2.5500698f + q * (-0.5982421f + q * 0.077560388f))));
        float cs = 0.99999994f + q * (-4.934793f + q * (4.058412f + q * (-1.3318802f + q * 0.2196968f)));
        float across = sqrtf(drop[k] * (2.0f - drop[k]));
        cx[k] = across * (1.0f - 2.0f * sn * sn);
        cy[k] = across * (2.0f * sn * cs);
    }
    ROW (int k = 0; k < half; k++) { /* mirror the z axis onto the field */
        float beyond = len[k] + fabsf(hz[k]), inverse = 1.0f / (len[k] * beyond), along = 1.0f - drop[k];
        float in_plane = hx[k] * cx[k] + hy[k] * cy[k];
        float back = (in_plane * (inverse * len[k]) - along) * (inverse * beyond);
        s[k] = cx[k] - hx[k] * back;
        s[p + k] = cy[k] - hy[k] * back;
        s[2 * p + k] = (along * hz[k] - copysignf(1.0f, hz[k]) * in_plane) * (inverse * beyond);
    }
}

static void over_relax(const lattice *a, float * s, const float * l, const float * t,
                       const float * b) {
    const int half = a->half, p = a->pitch;
    ROW (int k = 0; k < half; k++) {
        float x, y, z;
        bonds(l, t, b, p, k, &x, &y, &z);
        float twice = 2.0f * (x * s[k] + y * s[p + k] + z * s[2 * p + k]) / (x * x + y * y + z * z + TINY);
        s[k] = twice * x - s[k];
        s[p + k] = twice * y - s[p + k];
        s[2 * p + k] = twice * z - s[2 * p + k];
    }
}

static void align(const lattice *a, float * s, const float * l, const float * t,
                  const float * b) {
    const int half = a->half, p = a->pitch;
    ROW (int k = 0; k < half; k++) {
        float x, y, z;
        bonds(l, t, b, p, k, &x, &y, &z);
        float inverse = 1.0f / sqrtf(x * x + y * y + z * z + TINY);
        s[k] = x * inverse;
        s[p + k] = y * inverse;
        s[2 * p + k] = z * inverse;
    }
}

/* ---- sweeps ---- */

static void sweeps(lattice *a, const enum kind *kinds, const float *T, int many, uint32_t first) {
    const int size = a->size;
    for (int begin = 0; begin < many; begin += TOGETHER) {
        int stages = 2 * (many - begin < TOGETHER ? many - begin : TOGETHER);
        for (int tick = 0; tick < size + 2 * (stages - 1); tick++)
            for (int stage = 0; stage < stages; stage++) {
                int behind = tick - 2 * stage;
                if (behind < 0 || behind >= size) continue;
                int r = (behind + stage) % size, i = begin + stage / 2, c = stage % 2, odd = (r & 1) ^ c;
                float *s = row(a, r, c);
                const float *l = row(a, r, 1 - c) + odd - 1;
                const float *t = row(a, (r + 1) % size, 1 - c), *b = row(a, (r + size - 1) % size, 1 - c);
                if (kinds[i] == HEAT_BATH) {
                    draw(a, first + i, (uint32_t)(r * size + odd));
                    heat_bath(a, s, l, t, b, T[i]);
                } else if (kinds[i] == OVER_RELAX)
                    over_relax(a, s, l, t, b);
                else
                    align(a, s, l, t, b);
                wrap(a, s);
            }
    }
}

static double energy(const lattice *a) {
    double sum = 0;
    for (int r = 0; r < a->size; r++) {
        const float *s = row(a, r, 0), *l = row(a, r, 1) + (r & 1) - 1;
        const float *t = row(a, (r + 1) % a->size, 1), *b = row(a, (r + a->size - 1) % a->size, 1);
        for (int k = 0; k < a->half; k++) {
            float x, y, z;
            bonds(l, t, b, a->pitch, k, &x, &y, &z);
            sum -= x * s[k] + y * s[a->pitch + k] + z * s[2 * a->pitch + k];
        }
    }
    return sum / a->size / a->size;
}

static void start(lattice *a, uint32_t seed) { /* spins along z, then one sweep at infinite temperature */
    const enum kind kind = HEAT_BATH;
    const float hot = 1e9f;
    a->key[0] = seed;
    a->key[1] = ~seed;
    for (int r = 0; r < a->size; r++)
        for (int c = 0; c < 2; c++) {
            float *s = row(a, r, c);
            for (int k = 0; k < a->half; k++) s[k] = s[a->pitch + k] = 0.0f, s[2 * a->pitch + k] = 1.0f;
            wrap(a, s);
        }
    sweeps(a, &kind, &hot, 1, 0);
}

static double now(void) { /* of this process's own time, whatever else the machine does */
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int count, char **words) {
    const int size = count > 1 ? atoi(words[1]) : 128, many = count > 2 ? atoi(words[2]) : 500;
    if (size < 4 || size % 2 || size > 2 * MOST || many < 1) {
        fprintf(stderr, "size %d, sweeps %d: need an even size from 4 to %d and at least one sweep\n", size, many, 2 * MOST);
        return 2;
    }
    lattice a = {.size = size, .half = size / 2};
    a.pitch = (a.half + 15) / 16 * 16 + PAD;
    const size_t bytes = (6 * (size_t)a.pitch * size + 2 * PAD) * sizeof(float);
    a.spins = aligned_alloc(64, (bytes + 63) / 64 * 64);
    const int longest = many > 1500 ? many : 1500;
    enum kind *kinds = malloc(sizeof *kinds * longest);
    float *T = malloc(sizeof *T * longest);
    if (!a.spins || !kinds || !T) return 1;
    memset(a.spins, 0, bytes);

    static const char *names[] = {"heat_bath", "over_relax", "align"};
    const double updates = 1e-6 * size * size;
    start(&a, 1);
    printf("{\"size\": %d", size);
    for (int kind = HEAT_BATH; kind <= ALIGN; kind++) {
        for (int i = 0; i < many; i++) kinds[i] = (enum kind)kind, T[i] = 0.5f;
        double began = now();
        sweeps(&a, kinds, T, many, 1);
        printf(", \"%s\": %.1f, \"energy_%s\": %.6f", names[kind], many * updates / (now() - began), names[kind], energy(&a));
    }
    int i = 0; /* 200 temperatures from 1 to 0.01, 1 + 4 sweeps each, then 500 alignments */
    for (int step = 0; step < 200; step++)
        for (int j = 0; j < 5; j++, i++) kinds[i] = j ? OVER_RELAX : HEAT_BATH, T[i] = powf(0.01f, (float)step / 199.0f);
    for (; i < 1500; i++) kinds[i] = ALIGN, T[i] = 1.0f;
    double began = now();
    start(&a, 2);
    sweeps(&a, kinds, T, 1500, 1);
    printf(", \"schedule\": %.1f, \"energy_excess\": %.6f}\n", 1500 * updates / (now() - began), energy(&a) + 2.0);
    free(a.spins);
    free(kinds);
    free(T);
    return 0;
}
