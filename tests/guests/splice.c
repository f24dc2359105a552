/* Data that never passes through the program's memory: sendfile, splice, tee, vmsplice, copy_file_range. */
#include "guest.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

int main(void) {
    uint64_t seed = fresh_seed();
    static unsigned char data[20000], back[20000];
    fill_random(data, sizeof data, &seed);
    int in = open("in", O_RDWR | O_CREAT | O_TRUNC, 0600), out = open("out", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(in >= 0 && out >= 0 && unlink("in") == 0 && unlink("out") == 0);
    write_all(in, data, sizeof data);
    off_t offset = 100;
    CHECK(sendfile(out, in, &offset, 5000) == 5000 && offset == 5100);
    loff_t from = 0, to = 5000;
    ssize_t n = copy_file_range(in, &from, out, &to, 3000, 0);
    CHECK(n == 3000 && from == 3000 && to == 8000);
    CHECK(pread(out, back, sizeof back, 0) == 8000);
    CHECK(memcmp(back, data + 100, 5000) == 0 && memcmp(back + 5000, data, 3000) == 0);
    int a[2], b[2];
    CHECK(pipe(a) == 0 && pipe(b) == 0);
    from = 7;
    CHECK(splice(in, &from, a[1], NULL, 4000, 0) == 4000 && from == 4007);
    CHECK(tee(a[0], b[1], 4000, 0) == 4000);
    read_all(a[0], back, 4000);
    CHECK(memcmp(back, data + 7, 4000) == 0);
    memset(back, 0, sizeof back);
    read_all(b[0], back, 4000);
    CHECK(memcmp(back, data + 7, 4000) == 0);
    struct iovec part = {data, 1000};
    if (vmsplice(a[1], &part, 1, 0) == 1000) {
        read_all(a[0], back, 1000);
        CHECK(memcmp(back, data, 1000) == 0);
    } else {
        CHECK(recorded() && errno == ENOSYS); /* shares pages with the pipe: may be refused */
    }
    printf("%016llx\n", (unsigned long long)checksum(data, sizeof data));
    return 0;
}
