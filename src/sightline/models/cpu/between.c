/* What stands between products, each row by itself. */

#include <math.h>

#include "kernels.h"
#include "threads.h"
#include "vectors.h"

/* Numbers for which waking another thread takes longer than it saves. */
#define ONE_THREAD (1 << 15)

/* Root-mean-square norms: x / sqrt(mean(x^2) + eps) * weight. */
typedef struct {
    const float *rows, *weight;
    float *out;
    int64_t num_rows, width; /* a multiple of LANES */
    float eps;
    shares rows_taken;
} norm;

static void norm_row(const norm *n, int64_t row)
{
    const float *from = n->rows + row * n->width;
    float *to = n->out + row * n->width;
    floats sums = {0};
    for (int64_t i = 0; i < n->width; i += LANES) {
        const floats x = load(from + i);
        sums += x * x;
    }
    const float factor = 1.0f / sqrtf(sum_of(sums) / (float)n->width + n->eps);
    for (int64_t i = 0; i < n->width; i += LANES)
        store(to + i, load(from + i) * factor * load(n->weight + i));
}

static void norm_share(void *data)
{
    norm *n = data;
    int64_t first, last;
    while (take_own(&n->rows_taken, n->num_rows, &first, &last))
        for (int64_t row = first; row < last; row++) norm_row(n, row);
}

void norm_rows(
    const float *rows, int64_t num_rows, int64_t width, const float *weight, float eps, float *out,
    int num_threads)
{
    norm n = {rows, weight, out, num_rows, width, eps, {{0}}};
    on_threads(threads_for(num_rows * width, ONE_THREAD, num_threads), norm_share, &n);
}

/* Layer norms: (x - mean) / sqrt(variance + eps) * weight + bias. */
typedef struct {
    const float *rows, *weight, *bias, *added;
    float *out;
    int64_t num_rows, width; /* a multiple of LANES */
    float eps;
    shares rows_taken;
} layer_norm;

static void layer_norm_row(const layer_norm *n, int64_t row)
{
    const float *from = n->rows + row * n->width;
    float *to = n->out + row * n->width;
    floats sums = {0}, squares = {0};
    for (int64_t i = 0; i < n->width; i += LANES) sums += load(from + i);
    const float mean = sum_of(sums) / (float)n->width;
    for (int64_t i = 0; i < n->width; i += LANES) {
        const floats x = load(from + i) - mean;
        squares += x * x;
    }
    const float factor = 1.0f / sqrtf(sum_of(squares) / (float)n->width + n->eps);
    for (int64_t i = 0; i < n->width; i += LANES) {
        floats x = (load(from + i) - mean) * factor * load(n->weight + i) + load(n->bias + i);
        if (n->added) x += load(n->added + row * n->width + i);
        store(to + i, x);
    }
}

static void layer_norm_share(void *data)
{
    layer_norm *n = data;
    int64_t first, last;
    while (take_own(&n->rows_taken, n->num_rows, &first, &last))
        for (int64_t row = first; row < last; row++) layer_norm_row(n, row);
}

/* To each row its row of `added` is added, if there are any; `out` may be `rows` or `added`. */
void layer_norm_rows(
    const float *rows, int64_t num_rows, int64_t width, const float *weight, const float *bias,
    float eps, const float *added, float *out, int num_threads)
{
    layer_norm n = {rows, weight, bias, added, out, num_rows, width, eps, {{0}}};
    on_threads(threads_for(num_rows * width, ONE_THREAD, num_threads), layer_norm_share, &n);
}

typedef struct {
    float *heads;                  /* [num_rows][row_stride], of which num_heads * head_dim */
    const float *cosines, *sines;  /* [num_angles][head_dim] */
    int64_t row_stride, num_rows, num_heads, head_dim, num_angles;
    shares rows_taken;
} turning;

static void turn_row(const turning *t, int64_t row)
{
    const int64_t width = t->head_dim, half = width / 2;
    const float *cosines = t->cosines + row % t->num_angles * width;
    const float *sines = t->sines + row % t->num_angles * width;
    for (int64_t head = 0; head < t->num_heads; head++) {
        float *lower = t->heads + row * t->row_stride + head * width, *upper = lower + half;
        int64_t i = 0;
        for (; i + LANES <= half; i += LANES) {
            const floats x = load(lower + i), y = load(upper + i);
            store(lower + i, x * load(cosines + i) - y * load(sines + i));
            store(upper + i, y * load(cosines + half + i) + x * load(sines + half + i));
        }
        for (; i < half; i++) {
            const float x = lower[i], y = upper[i];
            lower[i] = x * cosines[i] - y * sines[i];
            upper[i] = y * cosines[half + i] + x * sines[half + i];
        }
    }
}

static void turn_share(void *data)
{
    turning *t = data;
    int64_t first, last;
    while (take_own(&t->rows_taken, t->num_rows, &first, &last))
        for (int64_t row = first; row < last; row++) turn_row(t, row);
}

/* Turns heads where they lie, each number of a lower half with its partner in the upper half. The
 * row r has the angles r % num_angles. */
void turn_halves(
    float *heads, int64_t row_stride, int64_t num_rows, int64_t num_heads, int64_t head_dim,
    const float *cosines, const float *sines, int64_t num_angles, int num_threads)
{
    turning t = {
        heads, cosines, sines, row_stride, num_rows, num_heads, head_dim, num_angles, {{0}},
    };
    on_threads(
        threads_for(num_rows * num_heads * head_dim, ONE_THREAD, num_threads), turn_share, &t);
}

typedef struct {
    const float *rows; /* [num_rows][2 * width], width a multiple of LANES */
    float *out;        /* [num_rows][width] */
    int64_t num_rows, width;
    shares taken;
} gate;

static void gate_share(void *data)
{
    gate *g = data;
    int64_t first, last;
    while (take_own(&g->taken, g->num_rows * g->width / LANES, &first, &last))
        for (int64_t i = first * LANES; i < last * LANES; i += LANES) {
            const float *at = g->rows + i / g->width * 2 * g->width + i % g->width;
            store(g->out + i, silu(load(at)) * load(at + g->width));
        }
}

/* silu of the first half of each row times the second half. */
void gate_rows(const float *rows, int64_t num_rows, int64_t width, float *out, int num_threads)
{
    gate g = {rows, out, num_rows, width, {{0}}};
    on_threads(threads_for(num_rows * width, ONE_THREAD, num_threads), gate_share, &g);
}
