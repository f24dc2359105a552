/* Calls that write more than their length arguments say: filters, interface requests, regions of
 * memory. */
#include "guest.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

static void filters(int fd) {
    struct sock_filter code[3] = {{0x80, 0, 0, 0}, {0x15, 0, 0, 7}, {0x06, 0, 0, 0xffff}};
    struct sock_fprog program = {3, code};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
    struct sock_filter got[8];
    memset(got, 0xee, sizeof got);
    socklen_t room = 8;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, got, &room) == 0);
    CHECK(room == 3 && memcmp(got, code, sizeof code) == 0);
    CHECK(((unsigned char *)got)[sizeof code] == 0xee);
}

static void interfaces(int fd) {
    struct {
        uint32_t command;
        char rest[200];
    } driver = {3, {0}};
    struct ifreq request;
    memset(&request, 'x', sizeof request);
    strcpy(request.ifr_name, "lo");
    request.ifr_data = (void *)&driver;
    long result = ioctl(fd, 0x8946, &request);
    printf("ethtool %ld %d %s %016llx\n", result, request.ifr_name[IFNAMSIZ - 1], driver.rest,
           (unsigned long long)checksum(&driver, sizeof driver));
    uint64_t words[4] = {1, 0, 16, 0};
    int bridges[16] = {0};
    words[1] = (uintptr_t)bridges;
    result = ioctl(fd, 0x8940, words);
    printf("bridges %ld %016llx\n", result, (unsigned long long)checksum(bridges, sizeof bridges));
}

static void regions(void) {
    unsigned char *m = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    m[2 * 4096] = m[3 * 4096] = m[6 * 4096] = 1;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    CHECK(fd >= 0);
    uint64_t found[4][3] = {{0}};
    uint64_t scan[12] = {96, 0, (uintptr_t)m, (uintptr_t)m + 8 * 4096, 0, (uintptr_t)found, 4, 0, 0, 0, 8, 8};
    long result = ioctl(fd, 0xc0606610, scan);
    CHECK(result == 2 || (result == -1 && errno == ENOTTY));
    CHECK(result != 2 || (found[0][0] == (uintptr_t)m + 2 * 4096 && found[1][1] == (uintptr_t)m + 7 * 4096));
    printf("regions %ld %016llx\n", result, (unsigned long long)checksum(found, sizeof found));
    close(fd);
    munmap(m, 8 * 4096);
}

int main(void) {
    for (int i = 0; i < 4; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        CHECK(fd >= 0);
        filters(fd);
        interfaces(fd);
        regions();
        close(fd);
    }
    return 0;
}
