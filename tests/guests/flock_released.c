/* Frozen forks are invisible: a lock is free as soon as its owner has closed the file or died. */
#include "guest.h"
#include <sys/file.h>

int main(void) {
    for (int round = 0; round < 10; round++) {
        int mine = open("lock", O_RDWR | O_CREAT, 0600);
        CHECK(mine >= 0);
        int ready[2];
        CHECK(pipe(ready) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            int own = open("lock", O_RDWR);
            CHECK(own >= 0 && flock(own, LOCK_EX) == 0);
            struct flock record = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
            CHECK(fcntl(own, F_SETLK, &record) == 0);
            struct flock open_record = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 10};
            CHECK(fcntl(own, F_OFD_SETLK, &open_record) == 0);
            write_all(ready[1], "r", 1);
            getppid();
            getppid();
            _exit(0);
        }
        char byte;
        read_all(ready[0], &byte, 1);
        expect_exit(child, 0);
        CHECK(flock(mine, LOCK_EX | LOCK_NB) == 0);
        struct flock record = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};
        CHECK(fcntl(mine, F_OFD_SETLK, &record) == 0);
        close(mine); /* and freed again by a close */
        mine = open("lock", O_RDWR);
        CHECK(mine >= 0);
        CHECK(flock(mine, LOCK_EX | LOCK_NB) == 0);
        close(mine);
        close(ready[0]);
        close(ready[1]);
    }
    CHECK(unlink("lock") == 0);
    printf("free, said %d\n", getpid());
    return 0;
}
