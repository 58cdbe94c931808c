/* Sharing work with the threads of the OpenMP that torch runs on: they are awake already. */

#ifndef SIGHTLINE_THREADS_H
#define SIGHTLINE_THREADS_H

#include <stdint.h>

/* Runs `work(data)` on so many threads, the calling one included, and returns when all are done.
 * With one nobody else is woken. */
void on_threads(int num_threads, void (*work)(void *), void *data);
int this_thread(void);

/* One thread for so little work that waking another would take longer. */
static inline int threads_for(int64_t work, int64_t little, int num_threads)
{
    return work > little ? num_threads : 1;
}

/* Within `work`: the part [first, last) of `count` things that is this thread's. */
void share_of(int64_t count, int64_t *first, int64_t *last);

#endif
