/* How rows rounded to 16 bits are multiplied with panels of LANES outputs, tile by tile.
 *
 * Included behind TILE, see `tiles.h`. */

typedef void (*tile)(const product *, const int32_t *, int64_t, int64_t);

#include "tiles.h"

static void multiply_panels(const product *p, int64_t first, int64_t last)
{
    const int64_t blocks = blocks_of(p->w.num_rows);
    for (int64_t panel = first, width = 1; panel < last; panel += width)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t row = first_row(p->w.num_rows, block);
            const int64_t height = first_row(p->w.num_rows, block + 1) - row;
            const int exponent = widest_tile(height, last - panel, blocks);
            width = (int64_t)1 << exponent;
            TILES[height][exponent](p, p->w.blocks + row * fours(&p->w) * 2, row, panel);
        }
}

static void multiply_share(void *data)
{
    product *p = data;
    int64_t first, last;
    if (blocks_of(p->w.num_rows) < MANY_BLOCKS) {
        while (take_own(&p->panels_taken, p->num_panels, &first, &last))
            multiply_panels(p, first, last);
        return;
    }
    while (take_some(&p->next, p->num_panels, &first, &last)) multiply_panels(p, first, last);
}

static void run(product *p, int num_threads)
{
    const int64_t work = p->w.num_rows * p->w.num_inputs * p->num_panels * LANES;
    num_threads = threads_for(work, ONE_THREAD, num_threads);
    on_threads(p->w.num_rows > MOST_ROWS ? num_threads : 1, lay_out_share, &p->w);
    on_threads(num_threads, multiply_share, p);
}
