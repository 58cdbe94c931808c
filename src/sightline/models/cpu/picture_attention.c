/* Attention among all rows of a picture, on processors that multiply bfloat16.
 *
 * Queries, keys, values and weights are rounded to bfloat16 and all sums are fp32, as in torch's
 * attention for bfloat16 rows. To a head, its keys are a matrix that makes scores of queries, and
 * its values one that makes results of weights: both are laid out as `rounded_products.c` wants
 * weights. Every query is computed by itself, so its bits are the same in any company.
 */

#ifdef __AVX512BF16__

#include <immintrin.h>

#include "kernels.h"
#include "threads.h"
#include "vectors.h"

#define PANEL (2 * LANES)
/* Queries whose scores are held at once: as many as stay within a core's second cache, and whole
 * blocks of a product. */
#define MOST_SCORES (1 << 16)
#define MOST_QUERIES 48
#define LEAST_QUERIES 12
/* So many pieces of work for each thread, or the last ones to finish would be waited for. */
#define PIECES 4

typedef struct {
    /* [num_items][num_rows][num_heads][head_dim] each, `*_strides` apart: items, rows, heads. */
    const float *query, *key, *value;
    int64_t query_strides[3], key_strides[3], value_strides[3];
    float *out; /* [num_items][num_rows][num_heads * head_dim] */
    float *room;
    int64_t num_items, num_rows, num_heads, head_dim; /* head_dim is even */
    float scale;
    int64_t room_per_thread, num_parts, next;
} picture;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceil_of(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t up_to(int64_t count, int64_t multiple) { return ceil_of(count, multiple) * multiple; }

static int64_t queries_at_once(int64_t num_rows)
{
    const int64_t fitting = MOST_SCORES / up_to(num_rows, PANEL) / LEAST_QUERIES * LEAST_QUERIES;
    return most(LEAST_QUERIES, least(MOST_QUERIES, fitting));
}

/* The first `left` lanes, or all. */
INLINE __mmask16 lanes_left(int64_t left)
{
    return left >= LANES ? 0xffff : left > 0 ? (__mmask16)((1 << left) - 1) : 0;
}

/* LANES numbers from `from` on, of which `left` exist; zeros in the place of the others. */
INLINE __m512 load_some(const float *from, int64_t left)
{
    return _mm512_maskz_loadu_ps(lanes_left(left), from);
}

/* Keys as weights [num_rows outputs][head_dim inputs]; those that are missing in the last panel
 * become zeros. */
static void lay_out_keys(const picture *p, const float *key, int32_t *panels)
{
    const int64_t width = p->head_dim, steps = width / 2;
    for (int64_t row = 0; row < up_to(p->num_rows, PANEL); row++) {
        int32_t *to = panels + row / PANEL * steps * PANEL + row % PANEL;
        const float *from = key + row * p->key_strides[1];
        for (int64_t d = 0; d < width; d += PANEL) {
            const int64_t left = row < p->num_rows ? width - d : 0;
            const __m512 lower = load_some(from + d, left);
            const __m512 upper = load_some(from + d + LANES, left - LANES);
            int32_t pairs[LANES];
            _mm512_storeu_si512(pairs, (__m512i)_mm512_cvtne2ps_pbh(upper, lower));
            for (int64_t i = 0; i < least(LANES, steps - d / 2); i++) to[(d / 2 + i) * PANEL] = pairs[i];
        }
    }
}

/* Values as weights [head_dim outputs][num_rows inputs], with zeros behind the last of both. */
static void lay_out_values(const picture *p, const float *value, int32_t *panels)
{
    const int64_t width = p->head_dim, steps = up_to(p->num_rows, PANEL) / 2;
    const __m512i in_turn = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0);
    for (int64_t step = 0; step < steps; step++) {
        const float *from = value + 2 * step * p->value_strides[1];
        for (int64_t d = 0; d < up_to(width, PANEL); d += LANES) {
            const __m512 earlier = load_some(from + d, 2 * step < p->num_rows ? width - d : 0);
            const __m512 later = load_some(
                from + p->value_strides[1] + d, 2 * step + 1 < p->num_rows ? width - d : 0);
            const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(later, earlier);
            int32_t *to = panels + (d / PANEL * steps + step) * PANEL + d % PANEL;
            _mm512_store_si512(to, _mm512_permutexvar_epi16(in_turn, both));
        }
    }
}

/* Numbers of four bytes that a thread needs room for: panels of keys and values, queries, scores,
 * results of the queries before they are brought to their place, and what products need. */
typedef struct {
    int64_t keys, values, queries, scores, results, products;
} sizes;

static sizes sizes_of(int64_t num_rows, int64_t head_dim)
{
    const int64_t rows = up_to(num_rows, PANEL), width = up_to(head_dim, PANEL);
    const int64_t queries = queries_at_once(num_rows);
    return (sizes){
        rows * head_dim / 2, rows * width / 2, up_to(queries * head_dim, LANES), queries * rows,
        queries * width,
        most(rounded_room(queries, head_dim, 1), rounded_room(queries, rows, 1)),
    };
}

/* Makes weights of the scores of one query; returns 1 / their sum. Up to `padded` stand zeros.
 *
 * Those of `weigh` in attention.c but for 3e-6 of them, in half of its operations: they are rounded
 * to eight bits next. 2^x is 2^n 2^f with n = round(x), and 2^f a polynomial for |f| <= 1/2. What is
 * not a number stays so: the second argument of a maximum is taken then. */
static float weigh_roughly(float *scores, int64_t count, int64_t padded)
{
    const __m512 lowest = _mm512_set1_ps(-200.0f), log2_e = _mm512_set1_ps(1.44269504f);
    __m512 highest = _mm512_set1_ps(-__builtin_inff()), sums = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += LANES)
        highest = _mm512_mask_max_ps(
            highest, lanes_left(count - i), load_some(scores + i, count - i), highest);
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(highest) * 1.44269504f);
    for (int64_t i = 0; i < count; i += LANES) {
        __m512 x = _mm512_fmsub_ps(load_some(scores + i, count - i), log2_e, top);
        x = _mm512_max_ps(lowest, x);
        const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m512 f = _mm512_sub_ps(x, n);
        __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(9.58285e-3f), f, _mm512_set1_ps(5.590643e-2f));
        y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.4024099e-1f));
        y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.9312419e-1f));
        y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
        y = _mm512_maskz_scalef_ps(lanes_left(count - i), y, n);
        sums = _mm512_add_ps(sums, y);
        _mm512_storeu_ps(scores + i, y);
    }
    for (int64_t i = up_to(count, LANES); i < padded; i += LANES) store(scores + i, (floats){0});
    return 1.0f / _mm512_reduce_add_ps(sums);
}

/* The queries [first, last) of one head. */
static void attend_queries(
    const picture *p, const float *query, int64_t first, int64_t last, const int32_t *keys,
    const int32_t *values, float *out, const sizes *s, float *room)
{
    const int64_t count = last - first, width = p->head_dim, padded = up_to(p->num_rows, PANEL);
    float *queries = room, *scores = queries + s->queries, *results = scores + s->scores;
    float *for_products = results + s->results, shares[MOST_QUERIES];
    for (int64_t i = 0; i < count; i++)
        for (int64_t d = 0; d < width; d++)
            queries[i * width + d] = query[(first + i) * p->query_strides[1] + d] * p->scale;
    multiply_rounded(
        queries, count, width, (const uint16_t *)keys, padded / PANEL, NULL, 0, PLAIN, scores,
        padded, for_products, 1);
    for (int64_t i = 0; i < count; i++)
        shares[i] = weigh_roughly(scores + i * padded, p->num_rows, padded);
    const int64_t results_width = up_to(width, PANEL);
    multiply_rounded(
        scores, count, padded, (const uint16_t *)values, results_width / PANEL, NULL, 0, PLAIN,
        results, results_width, for_products, 1);
    for (int64_t i = 0; i < count; i++)
        for (int64_t d = 0; d < width; d++)
            out[(first + i) * p->num_heads * width + d] = results[i * results_width + d] * shares[i];
}

static void attend_share(void *data)
{
    picture *p = data;
    const sizes s = sizes_of(p->num_rows, p->head_dim);
    float *room = p->room + this_thread() * p->room_per_thread;
    int32_t *keys = (int32_t *)room, *values = keys + s.keys;
    const int64_t num_pieces = p->num_items * p->num_heads * p->num_parts;
    int64_t number, laid_out = -1;
    while ((number = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < num_pieces) {
        const int64_t head_of_all = number / p->num_parts, part = number % p->num_parts;
        const int64_t item = head_of_all / p->num_heads, head = head_of_all % p->num_heads;
        if (laid_out != head_of_all) {
            lay_out_keys(
                p, p->key + item * p->key_strides[0] + head * p->key_strides[2], keys);
            lay_out_values(
                p, p->value + item * p->value_strides[0] + head * p->value_strides[2], values);
            laid_out = head_of_all;
        }
        const float *query = p->query + item * p->query_strides[0] + head * p->query_strides[2];
        float *out = p->out + (item * p->num_rows * p->num_heads + head) * p->head_dim;
        const int64_t end = (part + 1) * p->num_rows / p->num_parts;
        const int64_t at_once = queries_at_once(p->num_rows);
        for (int64_t first = part * p->num_rows / p->num_parts; first < end; first += at_once)
            attend_queries(
                p, query, first, least(end, first + at_once), keys, values, out, &s,
                (float *)(values + s.values));
    }
}

/* How many floats each thread needs room for, whole vectors. */
int64_t picture_room(int64_t num_rows, int64_t head_dim)
{
    const sizes s = sizes_of(num_rows, head_dim);
    return up_to(s.keys + s.values + s.queries + s.scores + s.results + s.products, LANES);
}

void attend_to_all(picture *p, int num_threads)
{
    const int64_t heads = p->num_items * p->num_heads;
    const int64_t most_parts = ceil_of(p->num_rows, queries_at_once(p->num_rows));
    p->num_parts = num_threads == 1 ? 1 : least(most_parts, ceil_of(PIECES * num_threads, heads));
    p->next = 0;
    on_threads(num_threads, attend_share, p);
}

#endif
