#include "threads.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef void (*region)(void (*)(void *), void *, unsigned, unsigned);

static region parallel;
static int (*thread_num)(void);
static int (*team_size)(void);

/* Whether the calling thread works alone, without a team of OpenMP. */
static _Thread_local int is_alone;

/* How many pieces a share has: so much of it is waited for when somebody has lost its core. */
enum { PIECES_OF_SHARE = 8 };

/* Of `state`: whether a task may still be joined, whether its end is slept for, and by how many it
 * was joined that have not left it. */
#define OPEN 0x80000000u
#define AWAITED 0x40000000u
#define NUM_HELPERS 0x3fffffffu

/* About a quarter of a millisecond, what lies between two tasks; and what a piece takes. */
enum { SPINS_FOR_TASK = 5000, SPINS_FOR_HELPERS = 1000 };

/* Threads that stay together for many tasks. */
typedef struct {
    void (*lead)(void *);
    void *led;
    void (*work)(void *);
    void *data;
    int num_threads; /* that the task is for: it has room for no more */
    uint32_t state, is_over;
    uint32_t num_tasks; /* that were given out, and one more at the end */
    uint32_t num_asleep;
} team;

/* The team that the calling thread leads, or NULL. */
static _Thread_local team *led;

/* Called once, with GOMP_parallel, omp_get_thread_num and omp_get_num_threads. */
void use_threads(region parallel_, int (*thread_num_)(void), int (*team_size_)(void))
{
    parallel = parallel_;
    thread_num = thread_num_;
    team_size = team_size_;
}

static uint32_t look_at(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

static void sleep_while(uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(uint32_t *word, int num_threads)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, num_threads, NULL, NULL, 0);
}

/* Lets helpers see that there is something new. */
static void announce(team *t)
{
    __atomic_fetch_add(&t->num_tasks, 1, __ATOMIC_SEQ_CST);
    if (look_at(&t->num_asleep)) wake(&t->num_tasks, NUM_HELPERS);
}

/* Works on a task with whoever comes, and waits for those who came. */
static void give_out(team *t, int num_threads, void (*work)(void *), void *data)
{
    t->num_threads = num_threads;
    t->work = work;
    t->data = data;
    __atomic_store_n(&t->state, OPEN, __ATOMIC_SEQ_CST);
    announce(t);
    work(data);
    __atomic_and_fetch(&t->state, ~OPEN, __ATOMIC_SEQ_CST);
    for (int i = 0; look_at(&t->state) && i < SPINS_FOR_HELPERS; i++) __builtin_ia32_pause();
    if (!look_at(&t->state)) return;
    /* A helper has lost its core: it may have this one. */
    uint32_t state = __atomic_or_fetch(&t->state, AWAITED, __ATOMIC_SEQ_CST);
    for (; state & NUM_HELPERS; state = look_at(&t->state)) sleep_while(&t->state, state);
}

/* Waits for the task behind the first `num_seen`; returns how many there are. */
static uint32_t await_task(team *t, uint32_t num_seen)
{
    uint32_t num_tasks;
    for (int i = 0; (num_tasks = look_at(&t->num_tasks)) == num_seen; i++) {
        if (i < SPINS_FOR_TASK) {
            __builtin_ia32_pause();
            continue;
        }
        __atomic_fetch_add(&t->num_asleep, 1, __ATOMIC_SEQ_CST);
        sleep_while(&t->num_tasks, num_seen);
        __atomic_fetch_sub(&t->num_asleep, 1, __ATOMIC_SEQ_CST);
    }
    return num_tasks;
}

static int join_task(team *t)
{
    uint32_t state = look_at(&t->state);
    while (state & OPEN)
        if (__atomic_compare_exchange_n(
                &t->state, &state, state + 1, 1, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return 1;
    return 0;
}

static void help(team *t)
{
    for (uint32_t num_seen = 0;;) {
        num_seen = await_task(t, num_seen);
        if (look_at(&t->is_over)) return;
        if (!join_task(t)) continue;
        if (thread_num() < t->num_threads) t->work(t->data);
        if (__atomic_sub_fetch(&t->state, 1, __ATOMIC_SEQ_CST) == AWAITED) wake(&t->state, 1);
    }
}

static void be_in_team(void *data)
{
    team *t = data;
    if (thread_num()) {
        help(t);
        return;
    }
    led = t;
    t->lead(t->led);
    led = NULL;
    __atomic_store_n(&t->is_over, 1, __ATOMIC_SEQ_CST);
    announce(t);
}

void as_team(int num_threads, void (*lead)(void *), void *data)
{
    team t = {.lead = lead, .led = data};
    if (num_threads > 1 && !led)
        parallel(be_in_team, &t, num_threads, 0);
    else
        lead(data); /* alone, or in the team that is there */
}

void on_threads(int num_threads, void (*work)(void *), void *data)
{
    if (num_threads <= 1) {
        is_alone = 1;
        work(data);
        is_alone = 0;
    } else if (led) {
        give_out(led, num_threads, work, data);
    } else {
        parallel(work, data, num_threads, 0);
    }
}

int this_thread(void) { return is_alone ? 0 : thread_num(); }

int take_own(shares *s, int64_t count, int64_t *first, int64_t *last)
{
    const int64_t all = is_alone ? 1 : team_size();
    const int64_t num_shares = all < MOST_SHARES ? all : MOST_SHARES;
    const int64_t num_pieces = all == 1 ? 1 : PIECES_OF_SHARE;
    for (int64_t i = 0; i < num_shares; i++) {
        const int64_t share = (this_thread() + i) % num_shares;
        uint32_t taken;
        while ((taken = __atomic_load_n(&s->taken[share], __ATOMIC_RELAXED)) < num_pieces) {
            taken = __atomic_fetch_add(&s->taken[share], 1, __ATOMIC_RELAXED);
            if (taken >= num_pieces) break;
            const int64_t piece = share * num_pieces + taken;
            *first = piece * count / (num_shares * num_pieces);
            *last = (piece + 1) * count / (num_shares * num_pieces);
            if (*first < *last) return 1;
        }
    }
    return 0;
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
