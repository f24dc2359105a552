/* The random number generator of the processor, as the C++ library uses it: 1000 numbers, and some from each other source. */
#include <cstdio>
#include <exception>
#include <random>

static void show(const char *source, int count) {
    try {
        std::random_device device(source);
        for (int i = 0; i < count; i++) {
            std::printf("%s %08x\n", source, device());
        }
    } catch (std::exception &error) {
        std::printf("%s: %s\n", source, error.what());
    }
}

int main() {
    show("default", 100);
    show("rdrand", 1000); // many
    show("rdseed", 100);
    show("hw", 10);
    show("/dev/urandom", 10);
    return 0; // end
}
