// An exception through two frames.
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

struct Counter {
    int n = 0;
    ~Counter() { n = -1; }
};

__attribute__((noinline)) int fail(int n) {
    Counter counter;
    counter.n = n;
    if (n > 2)
        throw std::runtime_error("too many"); // throw
    return counter.n;
}

__attribute__((noinline)) int all(const std::vector<int> &numbers) {
    int sum = 0;
    for (int n : numbers)
        sum += fail(n);
    return sum;
}

int main() {
    std::vector<int> numbers{1, 2, 3};
    std::string what = "nothing";
    try {
        all(numbers);
    } catch (const std::exception &e) {
        what = e.what(); // catch
    }
    std::printf("%s\n", what.c_str());
    return 0;
}
