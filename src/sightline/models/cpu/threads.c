#include "threads.h"

typedef void (*region)(void (*)(void *), void *, unsigned, unsigned);

static region parallel;
static int (*thread_num)(void);
static int (*team_size)(void);

/* Whether the calling thread works alone, without a team of OpenMP. */
static _Thread_local int is_alone;

/* Called once, with GOMP_parallel, omp_get_thread_num and omp_get_num_threads. */
void use_threads(region parallel_, int (*thread_num_)(void), int (*team_size_)(void))
{
    parallel = parallel_;
    thread_num = thread_num_;
    team_size = team_size_;
}

void on_threads(int num_threads, void (*work)(void *), void *data)
{
    if (num_threads > 1) {
        parallel(work, data, num_threads, 0);
        return;
    }
    is_alone = 1;
    work(data);
    is_alone = 0;
}

int this_thread(void) { return is_alone ? 0 : thread_num(); }

void share_of(int64_t count, int64_t *first, int64_t *last)
{
    const int64_t this = this_thread(), all = is_alone ? 1 : team_size();
    *first = this * count / all;
    *last = (this + 1) * count / all;
}

int take_some(int64_t *next, int64_t count, int64_t *first, int64_t *last)
{
    const int64_t all = is_alone ? 1 : team_size();
    *first = __atomic_load_n(next, __ATOMIC_RELAXED);
    do {
        const int64_t left = count - *first, some = all == 1 ? left : left / (2 * all);
        if (left <= 0) return 0;
        *last = *first + (some > 0 ? some : 1);
    } while (!__atomic_compare_exchange_n(
        next, first, *last, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return 1;
}
