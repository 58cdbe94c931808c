#include "threads.h"

typedef void (*region)(void (*)(void *), void *, unsigned, unsigned);

static region parallel;
static int (*thread_num)(void);
static int (*team_size)(void);

/* Called once, with GOMP_parallel, omp_get_thread_num and omp_get_num_threads. */
void use_threads(region parallel_, int (*thread_num_)(void), int (*team_size_)(void))
{
    parallel = parallel_;
    thread_num = thread_num_;
    team_size = team_size_;
}

void on_threads(int num_threads, void (*work)(void *), void *data)
{
    parallel(work, data, num_threads, 0);
}

int this_thread(void) { return thread_num(); }

void share_of(int64_t count, int64_t *first, int64_t *last)
{
    const int64_t this = thread_num(), all = team_size();
    *first = this * count / all;
    *last = (this + 1) * count / all;
}
