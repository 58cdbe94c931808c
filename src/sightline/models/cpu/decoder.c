/* Decoder layers of a pass, many in one call.
 *
 * A layer adds to its rows what attention makes of their norm, then what a gated pair of products
 * makes of the norm of the sum. Each part is the kernel that Python calls by itself elsewhere, so
 * the bits are the same; with few rows the Python between them would take as long as some of them.
 */

#include <stddef.h>
#include <string.h>

#include "kernels.h"
#include "threads.h"
#include "vectors.h"

/* A matrix and what is known of it, see `Matrix` in compiled.py. */
typedef struct {
    const void *panels;
    const float *scales; /* of int8 weights, else NULL */
    const float *bias;   /* or NULL */
    int64_t num_inputs, num_panels, num_outputs;
    int64_t rounds_rows; /* panels are those of rounded_products.c */
    int64_t is_grouped;  /* panels are those of group_products.c */
} matrix;

/* Matrices that do not exist have no panels. */
typedef struct {
    const float *attention_norm, *mlp_norm; /* [width] */
    matrix heads[3];   /* to queries, keys and values: one matrix for all, or three */
    matrix mixed;      /* from what attention makes of them */
    matrix gate_up[2]; /* one for both, with some of each in a bfloat16 panel; or gate, then up */
    matrix down;
} layer;

typedef struct {
    const layer *layers;
    int64_t num_layers, width;
    float eps;
} decoder;

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t in_vectors(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

static int64_t room_of(const matrix *m, int64_t num_rows, int num_threads)
{
#ifdef __AVX512VNNI__
    if (m->scales) return in_vectors(whole_room(num_rows, m->num_inputs));
    if (m->is_grouped) return in_vectors(groups_room(num_rows, m->num_inputs));
#endif
#ifdef __AVX512BF16__
    if (m->rounds_rows) return in_vectors(rounded_room(num_rows, m->num_inputs, num_threads));
#endif
    return in_vectors(room_needed(num_rows, m->num_inputs, num_threads));
}

/* Writes to `out` [num_rows][out_stride]. */
static void apply(
    const matrix *m, const float *rows, int64_t num_rows, const float *added, int64_t added_stride,
    int ending, float *out, int64_t out_stride, float *room, int num_threads)
{
#ifdef __AVX512VNNI__
    if (m->scales) {
        multiply_whole(
            rows, num_rows, m->num_inputs, m->panels, m->num_panels, m->scales, m->bias,
            added, added_stride, ending, out, out_stride, (int32_t *)room, num_threads);
        return;
    }
    if (m->is_grouped) {
        multiply_groups(
            rows, num_rows, m->num_inputs, m->panels, m->num_panels, m->bias, added,
            added_stride, ending, out, out_stride, (int32_t *)room, num_threads);
        return;
    }
#endif
#ifdef __AVX512BF16__
    if (m->rounds_rows) {
        multiply_rounded(
            rows, num_rows, m->num_inputs, m->panels, m->num_panels, m->bias, added,
            added_stride, ending, out, out_stride, room, num_threads);
        return;
    }
#endif
    multiply(
        rows, num_rows, m->num_inputs, m->panels, m->num_panels, m->bias, added, added_stride,
        ending, out, out_stride, room, num_threads);
}

static int64_t outputs_of(const matrix *matrices, int count)
{
    int64_t outputs = 0;
    for (int i = 0; i < count; i++) outputs += matrices[i].panels ? matrices[i].num_outputs : 0;
    return outputs;
}

/* The outputs of several matrices of the same rows, one beside the other. */
static void apply_all(
    const matrix *matrices, int count, const float *rows, int64_t num_rows, float *out, float *room,
    int num_threads)
{
    const int64_t stride = outputs_of(matrices, count);
    for (int i = 0; i < count && matrices[i].panels; out += matrices[i++].num_outputs)
        apply(matrices + i, rows, num_rows, NULL, 0, PLAIN, out, stride, room, num_threads);
}

/* silu(gate) * up. `both` is room for gate and up. */
static void gate(
    const layer *l, const float *rows, int64_t num_rows, float *both, float *out, float *room,
    int num_threads)
{
    const int64_t width = l->down.num_inputs;
    if (!l->gate_up[1].panels && !l->gate_up[0].scales && !l->gate_up[0].is_grouped) {
        apply(l->gate_up, rows, num_rows, NULL, 0, GATED, out, width, room, num_threads);
        return;
    }
    apply_all(l->gate_up, 2, rows, num_rows, both, room, num_threads);
    gate_rows(both, num_rows, width, out, num_threads);
}

/* What a pass needs room for: for products, then for rows of four widths. */
typedef struct {
    int64_t products, narrow, wide, gated, chosen;
} sizes;

static sizes sizes_of(const decoder *d, int64_t num_rows, int num_threads)
{
    sizes s = {0, 0, 0, 0, num_rows * d->width};
    for (int64_t i = 0; i < d->num_layers; i++) {
        const layer *l = d->layers + i;
        const matrix *all[] = {l->heads, l->heads + 1, l->heads + 2, &l->mixed,
                               l->gate_up, l->gate_up + 1, &l->down};
        for (size_t m = 0; m < sizeof all / sizeof *all; m++)
            s.products = most(s.products, room_of(all[m], num_rows, num_threads));
        s.narrow = most(s.narrow, num_rows * most(d->width, l->mixed.num_inputs));
        s.wide = most(s.wide, num_rows * most(outputs_of(l->heads, 3), outputs_of(l->gate_up, 2)));
        s.gated = most(s.gated, num_rows * l->down.num_inputs);
    }
    return s;
}

/* How many floats `decode` needs room for, aligned to a vector. */
int64_t decoder_room(const decoder *d, int64_t num_rows, int num_threads)
{
    const sizes s = sizes_of(d, num_rows, num_threads);
    return s.products + s.narrow + s.wide + s.gated + s.chosen;
}

/* The half of a layer that takes no look at other rows: adds what is made of `mixed`, what attention
 * made of the rows, and then what the gated pair makes of the sum. `narrow` may be `mixed`. */
static void finish_layer(
    const decoder *d, const layer *l, const float *mixed, int64_t num_rows, float *rows,
    float *narrow, float *wide, float *gated, float *room, int num_threads)
{
    const int64_t width = d->width;
    apply(&l->mixed, mixed, num_rows, rows, width, PLAIN, rows, width, room, num_threads);
    norm_rows(rows, num_rows, width, l->mlp_norm, d->eps, narrow, num_threads);
    gate(l, narrow, num_rows, wide, gated, room, num_threads);
    apply(&l->down, gated, num_rows, rows, width, PLAIN, rows, width, room, num_threads);
}

static void copy_row(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t width)
{
    memcpy(to + to_row * width, from + from_row * width, width * sizeof(float));
}

/* What `decode` is called with. */
typedef struct {
    const decoder *d;
    int64_t first, last;
    attention *a;
    char *keys, *values;
    int64_t layer_bytes;
    float *rows;
    const int64_t *wanted;
    int64_t num_wanted;
    float *room;
    int num_threads;
} pass;

static void lead_pass(void *data)
{
    const pass *p = data;
    const decoder *d = p->d;
    attention *a = p->a;
    const int64_t num_rows = a->num_rows, width = d->width, num_wanted = p->num_wanted;
    const int num_threads = p->num_threads;
    const sizes s = sizes_of(d, num_rows, num_threads);
    float *rows = p->rows, *room = p->room;
    float *narrow = room + s.products, *wide = narrow + s.narrow, *gated = wide + s.wide;
    for (int64_t i = p->first; i < p->last; i++) {
        const layer *l = d->layers + i;
        norm_rows(rows, num_rows, width, l->attention_norm, d->eps, narrow, num_threads);
        apply_all(l->heads, 3, narrow, num_rows, wide, room, num_threads);
        a->query = wide;
        a->key = a->query + a->num_heads * a->head_dim;
        a->value = a->key + a->num_groups * a->head_dim;
        a->query_stride = a->key_stride = a->value_stride = outputs_of(l->heads, 3);
        a->keys = p->keys + i * p->layer_bytes;
        a->values = p->values + i * p->layer_bytes;
        a->out = narrow;
        attend(a, num_threads);
        if (!p->wanted || i + 1 < d->num_layers) {
            finish_layer(
                d, l, narrow, num_rows, rows, narrow, wide, gated, room, num_threads);
            continue;
        }
        float *chosen = gated + s.gated;
        for (int64_t n = 0; n < num_wanted; n++) {
            const int64_t row = p->wanted[n];
            copy_row(chosen, n, rows, row, width);
            /* Rows move up only, in ascending order: none is overwritten before it is read. */
            if (row != n) copy_row(narrow, n, narrow, row, l->mixed.num_inputs);
        }
        finish_layer(d, l, narrow, num_wanted, chosen, narrow, wide, gated, room, num_threads);
        for (int64_t n = 0; n < num_wanted; n++) copy_row(rows, p->wanted[n], chosen, n, width);
    }
}

/* Takes rows [num_rows][width] through the layers [first, last), in place.
 *
 * `a` is an attention of the same rows without its heads, its layer and its results; a layer of
 * keys or values has `layer_bytes`. Of the last layer of all, only the rows in `wanted` (ascending;
 * NULL for all) get more than their keys and values; the others stay what the layer before gave. */
void decode(
    const decoder *d, int64_t first, int64_t last, attention *a, void *keys, void *values,
    int64_t layer_bytes, float *rows, const int64_t *wanted, int64_t num_wanted, float *room,
    int num_threads)
{
    pass p = {d, first, last, a, keys, values, layer_bytes, rows, wanted, num_wanted, room,
              num_threads};
    as_team(num_threads, lead_pass, &p);
}
