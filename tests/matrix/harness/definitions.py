"""The programs of the matrix: one TOML file each, beside this directory.

    about      what is run, for the table
    fast       in which modes `--fast` runs it (CI does; default: none): ["plain", "100"]
    needs      commands and files that must be there, each with its Debian package: "ab=apache2-utils"; a Debian
               package may have a list of alternatives or none ("cargo=")
    source     a Debian package, whose upstream sources are fetched into $CACHE/PACKAGE
    fetch      script for what the network must give, run with --install only, in the directory $CACHE that is kept
    build      script, run once in the base directory, which holds `files`; every run gets a fresh copy of it
    command    what is recorded, started in that copy
    terminal   true: `command` starts the program on a pty of its own through expect.py, which puts `rr record` before it
    output     regular expression for the whole standard output; without it, the output is that of the native run
    normalise  pairs of regular expression and replacement, applied before these comparisons (never before comparing a
               replay with its recording)
    status     the exit status (default: 0)
    limit      seconds for a recording or a replay (default: 120)
    root       false: as nobody, where the matrix runs as root (default: as whoever runs it)
    waiting    why it cannot pass yet; skipped unless named or with --all
    env        more variables
    [files]    file name = contents; a script beginning with #! is made executable
    uses       files of this directory to copy as well ("expect.py")

Invariant: a program is the same every time: its directory has the same path and the same contents in every run.
"""

import hashlib
import shutil
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

# Fetches a package's upstream sources. The list of sources is our own: the machine's may lack them, and is left alone.
DEBIAN_SOURCE = """
mkdir -p apt/parts apt/lists
. /etc/os-release
echo "deb-src http://deb.debian.org/debian $VERSION_CODENAME main" >apt/parts/sources.list
options="-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$PWD/apt/parts -o Dir::State::lists=$PWD/apt/lists"
options="$options -o Dir::Cache::srcpkgcache= -o Dir::Cache::pkgcache= -o APT::Sandbox::User=root"
apt-get $options update
apt-get $options source --download-only PACKAGE
mkdir PACKAGE
tar xf PACKAGE_*.orig.tar.* -C PACKAGE --strip-components=1
rm -r apt PACKAGE_*
"""


@dataclass
class Program:
    """One definition."""

    name: str
    about: str
    command: list
    fast: list = field(default_factory=list)
    needs: list = field(default_factory=list)
    source: str = ""
    fetch: str = ""
    build: str = ""
    terminal: bool = False
    output: str | None = None
    normalise: list = field(default_factory=list)
    status: int = 0
    limit: float = 120
    root: bool = True
    waiting: str = ""
    env: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    uses: list = field(default_factory=list)

    def __post_init__(self):
        if self.source:
            self.fetch = DEBIAN_SOURCE.replace("PACKAGE", self.source)

    def missing(self):
        """What is not on this machine: (command or file, package) pairs."""
        pairs = [need.partition("=")[::2] for need in self.needs]
        return [
            (what, package)
            for what, package in pairs
            if not (Path(what).exists() if what.startswith("/") else shutil.which(what))
        ]

    def stamp(self):
        """Names the contents of the cache directory: another fetch script is another cache."""
        return hashlib.sha256(self.fetch.encode()).hexdigest()[:16]

    def write_files(self, directory):
        """Puts the files of the definition into a directory."""
        for name, text in self.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if text.startswith("#!"):
                path.chmod(0o755)
        for name in self.uses:
            shutil.copy(HERE / "harness" / name, directory / name)


def load():
    """All programs, by name."""
    programs = {}
    for path in sorted(HERE.glob("*.toml")):
        with path.open("rb") as file:
            try:
                programs[path.stem] = Program(name=path.stem, **tomllib.load(file))
            except (tomllib.TOMLDecodeError, TypeError) as error:
                raise SystemExit(f"{path}: {error}") from error
    return programs
