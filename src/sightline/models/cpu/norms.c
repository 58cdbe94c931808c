/* Root-mean-square norms of rows, each by itself: x / sqrt(mean(x^2) + eps) * weight. */

#include <math.h>

#include "threads.h"
#include "vectors.h"

typedef struct {
    const float *rows, *weight;
    float *out;
    int64_t num_rows, width; /* a multiple of LANES */
    float eps;
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
    const norm *n = data;
    int64_t first, last;
    share_of(n->num_rows, &first, &last);
    for (int64_t row = first; row < last; row++) norm_row(n, row);
}

void norm_rows(
    const float *rows, int64_t num_rows, int64_t width, const float *weight, float eps, float *out,
    int num_threads)
{
    norm n = {rows, weight, out, num_rows, width, eps};
    if (num_threads > 1) on_threads(num_threads, norm_share, &n);
    else
        for (int64_t row = 0; row < num_rows; row++) norm_row(&n, row);
}
