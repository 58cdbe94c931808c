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
