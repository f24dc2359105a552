/* Many threads wait for one condition. Each wakes all others when it comes, and then they wait for one lock. The first argument is
 * their number. */
#include "guest.h"
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long waiting, released, sum;

static void *be_in_the_crowd(void *number) {
    pthread_mutex_lock(&lock);
    waiting++;
    pthread_cond_broadcast(&changed);
    while (!released) {
        pthread_cond_wait(&changed, &lock);
    }
    sum = sum * 31 % 1000003 + (long)number; /* shows the order */
    pthread_mutex_unlock(&lock);
    return NULL;
}

int main(int argc, char **argv) {
    static pthread_t threads[4000];
    long number = argc > 1 ? atol(argv[1]) : 60;
    CHECK(number <= (long)(sizeof threads / sizeof threads[0]));
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 1 << 16) == 0);
    for (long n = 0; n < number; n++) {
        CHECK(pthread_create(&threads[n], &small, be_in_the_crowd, (void *)n) == 0);
    }
    for (;;) {
        pthread_mutex_lock(&lock);
        if (waiting == number) {
            break;
        }
        pthread_mutex_unlock(&lock);
        sleep_ms(1);
    }
    released = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (long n = 0; n < number; n++) {
        CHECK(pthread_join(threads[n], NULL) == 0);
    }
    printf("%ld of %ld: %ld\n", waiting, number, sum);
    return 0;
}
