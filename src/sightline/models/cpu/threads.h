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

/* Within `work`: takes the next things [first, last) of `count`, of which `next` counts those that
 * somebody has; 0 if none are left. Many at first, in the end one by one: a thread whose core has
 * other work to do is not waited for long. */
int take_some(int64_t *next, int64_t count, int64_t *first, int64_t *last);

/* Within `work`: the part [first, last) of `count` things that is this thread's. */
void share_of(int64_t count, int64_t *first, int64_t *last);

#endif
