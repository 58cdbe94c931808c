/* Sharing work with the threads of the OpenMP that torch runs on: they are awake already. */

#ifndef SIGHTLINE_THREADS_H
#define SIGHTLINE_THREADS_H

#include <stdint.h>

/* Runs `work(data)` on the calling thread and others whose numbers are below `num_threads`, and
 * returns when all is done. With one nobody else is woken. Work must be taken, see below: there may
 * be fewer threads, and in a team one may come late, or never. */
void on_threads(int num_threads, void (*work)(void *), void *data);
int this_thread(void);

/* Runs `lead(data)` on the calling thread while the others stay at hand for what it does by
 * `on_threads`. Who has no core just then is not waited for: apart from that, a call costs less than
 * a team of its own for each of its tasks. */
void as_team(int num_threads, void (*lead)(void *), void *data);

/* One thread for so little work that waking another would take longer. */
static inline int threads_for(int64_t work, int64_t little, int num_threads)
{
    return work > little ? num_threads : 1;
}

/* Of a task, how many pieces of each thread's share have been taken; zeros at first. */
enum { MOST_SHARES = 64 };
typedef struct {
    uint32_t taken[MOST_SHARES];
} shares;

/* Within `work`: takes things [first, last) of `count`; 0 if none are left. A thread gets those of its
 * own share first, one beside the other, then what others have not come to. */
int take_own(shares *s, int64_t count, int64_t *first, int64_t *last);

/* Within `work`: takes the next things [first, last) of `count`, of which `next` counts those that
 * somebody has; 0 if none are left. Many at first, in the end one by one: a thread whose core has
 * other work to do is not waited for long. */
int take_some(int64_t *next, int64_t count, int64_t *first, int64_t *last);

#endif
