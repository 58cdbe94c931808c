/* The functions that Python calls, which `decoder.c` calls too. */

#ifndef SIGHTLINE_KERNELS_H
#define SIGHTLINE_KERNELS_H

#include <stdint.h>

/* What is done with finished sums; see `ENDINGS` in streamed_weight.py. */
enum { PLAIN = 0, GATED = 1, SILU = 2, GELU = 3, QUICK_GELU = 4 };

/* One sequence's rows; see `Segment` in kv_pool.py. */
typedef struct {
    int64_t first_row, num_new, num_cached;
    const int32_t *table;
} segment;

typedef struct {
    /* [num_rows][stride] floats each: heads of head_dim, side by side. */
    const float *query, *key, *value;
    int64_t query_stride, key_stride, value_stride;
    /* The turning of a row, [num_rows][head_dim], or NULL; see `Turns` in attention.py. */
    const float *cosines, *sines, *query_scales;
    int32_t partners_are_neighbours, is_bfloat16;
    void *keys, *values; /* this layer of the pool */
    const segment *segments;
    const int64_t *new_slots; /* [num_rows]: where a row's key and value belong in the pool */
    float *out;               /* [num_rows][num_heads * head_dim] */
    float *room;              /* see `attention_room` */
    int64_t room_per_thread;
    int64_t num_rows, num_segments, num_heads, num_groups, head_dim, block_size;
    float scale;
    /* How work is cut: so many rows and heads of one group at a time. */
    int64_t rows_at_once, heads_at_once;
    int64_t next; /* piece of work */
} attention;

/* products.c */
int64_t room_needed(int64_t num_rows, int64_t num_inputs, int num_threads);
void multiply(
    const float *rows, int64_t num_rows, int64_t num_inputs, const uint16_t *weights,
    int64_t num_panels, const float *bias, const float *added, int64_t added_stride, int ending,
    float *out, int64_t out_stride, float *room, int num_threads);

/* rounded_products.c */
int64_t rounded_room(int64_t num_rows, int64_t num_inputs, int num_threads);
void multiply_rounded(
    const float *rows, int64_t num_rows, int64_t num_inputs, const uint16_t *weights,
    int64_t num_panels, const float *bias, const float *added, int64_t added_stride, int ending,
    float *out, int64_t out_stride, float *room, int num_threads);

/* whole_products.c */
int64_t whole_room(int64_t num_rows, int64_t num_inputs);
void multiply_whole(
    const float *rows, int64_t num_rows, int64_t num_inputs, const uint8_t *weights,
    int64_t num_panels, const float *scales, const float *bias, const float *added,
    int64_t added_stride, int ending, float *out, int64_t out_stride, int32_t *room,
    int num_threads);

/* group_products.c */
int64_t groups_room(int64_t num_rows, int64_t num_inputs);
void multiply_groups(
    const float *rows, int64_t num_rows, int64_t num_inputs, const uint8_t *weights,
    int64_t num_panels, const float *bias, const float *added, int64_t added_stride, int ending,
    float *out, int64_t out_stride, int32_t *room, int num_threads);

/* attention.c */
void attend(attention *a, int num_threads);

/* between.c */
void norm_rows(
    const float *rows, int64_t num_rows, int64_t width, const float *weight, float eps, float *out,
    int num_threads);
void layer_norm_rows(
    const float *rows, int64_t num_rows, int64_t width, const float *weight, const float *bias,
    float eps, const float *added, float *out, int num_threads);
void turn_halves(
    float *heads, int64_t row_stride, int64_t num_rows, int64_t num_heads, int64_t head_dim,
    const float *cosines, const float *sines, int64_t num_angles, int num_threads);
void gate_rows(const float *rows, int64_t num_rows, int64_t width, float *out, int num_threads);

#endif
