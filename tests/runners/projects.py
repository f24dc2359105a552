"""A project for each test runner: many fast tests, of which one fails if $RED is set.

A project is a class. Its instance is made for a directory and a number of tests; `write` makes the project there, `build` (not measured) what
is needed before the tests can run, and `job` says how the tests are run below `rr ci`, or natively. `line` is what the log of a red job has to
show: the place in the source where the failing test fails, in the backtrace of rr or, where the program has an interpreter whose frames
say nothing about the test, in the runner's own report.
"""

import shutil
from pathlib import Path

C_CASE = """\
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int sum(const int *values, int count) {
    int total = 0;
    for (int i = 0; i < count; i++)
        total += values[i];
    return total;
}

int main(int argc, char **argv) {
    int values[64];
    int number = atoi(argv[argc - 1]);
    for (int i = 0; i < 64; i++)
        values[i] = i * number;
    int is_red = number == FAILING && getenv("RED") != NULL;
    assert(sum(values, 64 - is_red) == 64 * 63 / 2 * number);
    return 0;
}
"""


def line_of(text, part):
    """The number of the line that has this part."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


class Project:
    """What all have in common."""

    # Commands that must be there, and the Debian packages that have them.
    needs = {}

    def __init__(self, directory, count):
        self.directory = directory
        self.count = count
        self.failing = count // 2 + 1

    def put(self, name, text):
        """Writes a file of the project."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def build(self, run):
        """Makes what the tests need; `run` runs a command in the project."""

    def job(self, wrapper):
        """The command and variables that run the tests with this wrapper, a list of words (empty: natively)."""
        raise NotImplementedError


class C(Project):
    """One program, whose argument says which test it is."""

    def write(self):
        text = C_CASE.replace("FAILING", str(self.failing))
        self.put("case.c", text)
        self.line = rf"main \(.*\) at .*case\.c:{line_of(text, 'assert(')}\b"


class CTest(C):
    """CTest, by the emulator that it puts before each test."""

    needs = {"cmake": "cmake", "ctest": "cmake", "gcc": "gcc", "make": "make"}

    def write(self):
        super().write()
        tests = "".join(f"add_test(NAME case-{n} COMMAND case {n})\n" for n in range(1, self.count + 1))
        self.put(
            "CMakeLists.txt",
            'cmake_minimum_required(VERSION 3.10)\nproject(cases C)\nset(CMAKE_C_FLAGS "-g -O0")\nenable_testing()\n'
            f"add_executable(case case.c)\n{tests}",
        )

    def job(self, wrapper):
        # The emulator is a property of the target: it is set when the project is configured.
        build = self.directory / ("rr" if wrapper else "native")
        emulator = [f"-DCMAKE_CROSSCOMPILING_EMULATOR={';'.join(wrapper)}"] if wrapper else []
        self.prepare = [["cmake", "-S", ".", "-B", str(build), *emulator], ["cmake", "--build", str(build)]]
        return ["ctest", "--output-on-failure", "--test-dir", str(build)], {}


class Meson(C):
    """Meson, by its --wrapper."""

    needs = {"meson": "meson", "ninja": "ninja-build", "gcc": "gcc"}

    def write(self):
        super().write()
        tests = "".join(f"test('case-{n}', case, args: ['{n}'])\n" for n in range(1, self.count + 1))
        self.put("meson.build", f"project('cases', 'c')\ncase = executable('case', 'case.c')\n{tests}")

    def build(self, run):
        run(["meson", "setup", "build"])
        run(["ninja", "-C", "build"])

    def job(self, wrapper):
        words = ["--wrapper", " ".join(wrapper)] if wrapper else []
        return ["meson", "test", "-C", "build", "--print-errorlogs", "--no-rebuild", *words], {}


class Automake(C):
    """make check, by LOG_COMPILER."""

    needs = {"automake": "automake", "autoconf": "autoconf", "make": "make", "gcc": "gcc"}

    def write(self):
        super().write()
        names = [f"case-{n}.sh" for n in range(1, self.count + 1)]
        for number, name in enumerate(names, 1):
            self.put(name, f"#!/bin/sh\n./case {number}\n")
            (self.directory / name).chmod(0o755)
        self.put(
            "configure.ac",
            "AC_INIT([cases], [1])\nAM_INIT_AUTOMAKE([foreign parallel-tests])\nAC_PROG_CC\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n",
        )
        # The extension has its own variable; scripts that are run by a wrapper have none of their own.
        self.put(
            "Makefile.am",
            "check_PROGRAMS = case\ncase_SOURCES = case.c\nTEST_EXTENSIONS = .sh\nSH_LOG_COMPILER = $(LOG_COMPILER)\n"
            f"TESTS = {' '.join(names)}\n",
        )

    def build(self, run):
        run(["autoreconf", "--install"])
        run(["./configure", "CFLAGS=-g -O0"])
        run(["make", "case"])

    def job(self, wrapper):
        words = [f"LOG_COMPILER={' '.join(wrapper)}"] if wrapper else []
        # The log of a failing test stands in a file: VERBOSE shows it.
        return ["make", "check", "VERBOSE=1", *words], {}


class Cargo(Project):
    """cargo test: all tests in one process, each in a thread."""

    needs = {"cargo": None}
    runner = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER"
    command = ["cargo", "test", "--offline", "--lib"]

    def write(self):
        tests = "".join(f"    #[test]\n    fn case_{n}() {{\n        super::check({n});\n    }}\n" for n in range(1, self.count + 1))
        text = (
            "#[cfg(test)]\nfn check(number: u32) {\n    let values: Vec<u32> = (0..64).map(|value| value * number).collect();\n"
            f"    let is_red = number == {self.failing} && std::env::var_os(\"RED\").is_some();\n"
            "    let wanted = 64 * 63 / 2 * number + u32::from(is_red);\n"
            "    assert_eq!(values.iter().sum::<u32>(), wanted);\n}\n\n"
            f"#[cfg(test)]\nmod tests {{\n{tests}}}\n"
        )
        self.put("src/lib.rs", text)
        self.put("Cargo.toml", '[package]\nname = "cases"\nversion = "0.1.0"\nedition = "2021"\n\n[workspace]\n')
        # The frame of rr's backtrace: a panic's message has no "in cases::check".
        self.line = rf"in cases::check \(.*\) at .*src/lib\.rs:{line_of(text, 'assert_eq!')}\b"

    def build(self, run):
        run([*self.command, "--no-run"])

    def job(self, wrapper):
        return self.command, {self.runner: " ".join(wrapper)} if wrapper else {}


class Nextest(Cargo):
    """cargo nextest: each test in a process of its own."""

    needs = {"cargo-nextest": None, "cargo": None}
    command = ["cargo", "nextest", "run", "--offline"]


class Go(Project):
    """go test, by its -exec."""

    needs = {"go": "golang-go"}

    def write(self):
        tests = "".join(f"func TestCase{n}(t *testing.T) {{ check(t, {n}) }}\n" for n in range(1, self.count + 1))
        text = (
            'package cases\n\nimport (\n\t"os"\n\t"testing"\n)\n\nfunc check(t *testing.T, number int) {\n\ttotal := 0\n'
            "\tfor i := 0; i < 64; i++ {\n\t\ttotal += i * number\n\t}\n"
            f'\tif number == {self.failing} && os.Getenv("RED") != "" {{\n\t\ttotal++\n\t}}\n'
            '\tif total != 64*63/2*number {\n\t\tt.Fatalf("a wrong sum: %d", total)\n\t}\n}\n\n'
        )
        self.put("cases_test.go", text + tests)
        self.put("go.mod", "module example.org/cases\n\ngo 1.18\n")
        self.line = rf"cases_test\.go:{line_of(text, 't.Fatalf')}\b"

    def build(self, run):
        run(["go", "vet", "."])
        run(["go", "test", "-count=1", "-run", "^$", "."])

    def job(self, wrapper):
        words = ["-exec", " ".join(wrapper)] if wrapper else []
        return ["go", "test", "-count=1", *words, "."], {}


class Pytest(Project):
    """pytest: one recording of the whole job."""

    needs = {"/usr/bin/python3": "python3", "pytest-3": "python3-pytest"}

    def write(self):
        text = (
            "import os\n\nimport pytest\n\n\n"
            f'@pytest.mark.parametrize("number", range(1, {self.count + 1}))\ndef test_case(number):\n'
            "    total = sum(value * number for value in range(64))\n"
            f'    if number == {self.failing} and "RED" in os.environ:\n        total += 1\n'
            "    assert total == 64 * 63 / 2 * number\n"
        )
        self.put("test_cases.py", text)
        self.line = rf"test_cases\.py:{line_of(text, 'assert')}: AssertionError"

    def job(self, wrapper):
        return [*wrapper, "/usr/bin/python3", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "."], {}


class Jest(Project):
    """Jest on node: one recording of the whole job."""

    needs = {"node": "nodejs", "npm": "npm"}

    def write(self):
        text = (
            f"for (let number = 1; number <= {self.count}; number++) {{\n"
            "  test(`case ${number}`, () => {\n    let total = 0;\n    for (let i = 0; i < 64; i++) total += i * number;\n"
            f"    if (number === {self.failing} && process.env.RED) total++;\n"
            "    expect(total).toBe(((64 * 63) / 2) * number);\n  });\n}\n"
        )
        self.put("cases.test.js", text)
        self.put("package.json", '{ "name": "cases", "version": "1.0.0", "jest": { "cache": false } }\n')
        self.line = rf"cases\.test\.js:{line_of(text, 'expect(')}:"

    def build(self, run):
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", "jest"])

    def job(self, wrapper):
        return [*wrapper, "node", "node_modules/.bin/jest"], {}


RUNNERS = {
    "cargo": Cargo,
    "nextest": Nextest,
    "ctest": CTest,
    "meson": Meson,
    "automake": Automake,
    "go": Go,
    "pytest": Pytest,
    "jest": Jest,
}


def missing(runner):
    """Debian packages (or the commands themselves) that this runner wants and the machine has not."""
    return sorted({package or command for command, package in runner.needs.items() if not shutil.which(command)})
