// Threads that wait for each other in loops without system calls.
#include <pthread.h>
#include <stdio.h>

static volatile int turn = 1;
static unsigned long spins[2];

static void *player(void *arg)
{
    int me = (int)(long)arg;
    while (turn != me)
        spins[me]++;
    turn = !me;
    return 0;
}

int main(void)
{
    pthread_t t[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&t[i], 0, player, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], 0);
    printf("%s\n", spins[0] + spins[1] > 0 ? "spun" : "did not spin");
    return 0;
}
