"""What the daemon is shipped in: the unit, the image, the profile and the package say what they should.

No image is built here; what can be seen of it without an engine is looked at.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import FATHOMD, ROOT
from waiting import PATIENCE

DOCKER = ROOT / "docker"


def unit():
    """{name: value} of docker/fathom.service; a name given twice has the last one."""
    lines = (DOCKER / "fathom.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))


def default_of(option):
    """A time among the options, in seconds."""
    table = (ROOT / "config" / "options.def").read_text()
    return float(re.search(rf'OPTION\(TIME, {option}, "(\d+)s"', table)[1])


def test_the_service_waits_longer_than_a_drain_takes():
    service = unit()
    drain = default_of("drain_delay") + default_of("drain_timeout")
    assert float(service["TimeoutStopSec"]) >= drain + 10
    assert service["Type"] == "notify" and service["WatchdogSec"] == "30"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["User"] == "fathom" and service["NoNewPrivileges"] == "yes"
    compose = (DOCKER / "compose.yml").read_text()
    assert float(re.search(r"stop_grace_period: (\d+)s", compose)[1]) >= drain + 10


def test_systemd_understands_the_units(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    for name in ("fathom.service", "fathom.socket"):
        text = (DOCKER / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/bin/fathomd", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "fathom.service",
                           tmp_path / "fathom.socket"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_packaged_configuration_is_understood():
    done = subprocess.run([FATHOMD, "--print-config", "-c", str(DOCKER / "fathom.ini")], cwd=ROOT,
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    # What stands there behind a semicolon is an option too.
    names = re.findall(r"^;([a-z-]+) = ", (DOCKER / "fathom.ini").read_text(), re.M)
    known = (ROOT / "config" / "sample.ini").read_text()
    assert names and all(f"\n;{name} = " in known for name in names), names


def forbidden_by_the_daemon():
    """The names of the rows in server/syscall_filter.c."""
    source = (ROOT / "server" / "syscall_filter.c").read_text()
    table = source[source.index("ROWS[] = {"):source.index("};", source.index("ROWS[] = {"))]
    return {a or b for a, b in re.findall(r"ROW\((\w+)\)|SYS_\w+, \"(\w+)\"", table)}


def test_the_profile_forbids_what_the_daemon_forbids_itself_but_the_ring():
    profile = json.loads((DOCKER / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    assert profile["architectures"] == ["SCMP_ARCH_X86_64"]  # so the others' numbers are refused
    refused = {name for rule in profile["syscalls"] for name in rule["names"] if "args" not in rule}
    assert all(rule["action"] == "SCMP_ACT_ERRNO" for rule in profile["syscalls"])
    ring = {"io_uring_setup", "io_uring_enter", "io_uring_register"}
    assert not refused & (ring | {"execve", "seccomp", "landlock_create_ruleset",
                                  "landlock_add_rule", "landlock_restrict_self", "prctl"})
    starts = {"execve", "execveat"}  # a container begins by them
    rows = forbidden_by_the_daemon()
    assert len(rows) > 50 and rows - ring - starts <= refused, rows - ring - starts - refused


def test_the_image_copies_what_is_there_and_holds_no_tools():
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    sources = re.findall(r"type=bind,source=([^,]+),", text)
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M):
        sources += line.split()[:-1]
    assert "docker/packages" in sources
    for source in sources:
        assert source == "." or list(ROOT.glob(source)), source
    for line in re.findall(r"--from=([\w-]+)|from=([\w-]+),", text):
        assert f"AS {line[0] or line[1]}" in text
    runtime = text[text.index("AS runtime"):]
    assert not re.search(r"\b(curl|wget|gcc|python3|make)\b", runtime)
    assert "\nUSER fathom\n" in runtime and 'CMD ["fathomd", "health"]' in runtime
    for name in re.findall(r"FATHOM_(\w+)=", runtime):
        assert f", {name.lower()}, " in (ROOT / "config" / "options.def").read_text(), name


def test_compose_is_read_only_and_has_no_rights():
    text = (DOCKER / "compose.yml").read_text()
    shared, services = text.split("\nservices:\n")
    for words in ("read_only: true", "cap_drop: [ALL]", "  - no-new-privileges:true"):
        assert f"\n  {words}\n" in shared
    assert ":/model:ro\n" in shared
    (profile,) = re.findall(r"- seccomp:(\S+)", shared)
    assert (DOCKER / profile).exists()
    ports = re.findall(r'^    - "(.*:8000)"$', shared, re.M)
    assert ports == ["127.0.0.1:8000:8000"]
    assert re.findall(r"^  (\w+):\n    <<: \*fathom$", services, re.M) == ["fathom", "gpu"]


def test_the_package_holds_what_it_should():
    build = pathlib.Path(FATHOMD).resolve().parent
    for tool in ("dpkg-deb", "dpkg-shlibdeps", "strip"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not here")
    if build != ROOT / "build" or not (build / "fathom-bench").exists():
        pytest.skip("not the usual build")
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS")}
    made = subprocess.run([DOCKER / "deb", str(build)], cwd=ROOT, capture_output=True, text=True,
                          env=environment, timeout=300)
    assert made.returncode == 0, made.stdout + made.stderr
    package = re.match(r"(\S+\.deb): ", made.stdout)[1]
    checked = subprocess.run([DOCKER / "deb-check", package], cwd=ROOT, capture_output=True,
                             text=True, timeout=PATIENCE)
    assert checked.returncode == 0, checked.stdout + checked.stderr
