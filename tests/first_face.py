"""The first face of an image: how long after its start `/readyz` and `/synthesize` answer.

    unshare --mount --net python -m tests.first_face ROOT UID ENVIRONMENT COMMAND...

ROOT is the image's file system, mounted; ENVIRONMENT is a JSON object. In name spaces of its own ROOT is
mounted read-only and no network is there but loopback; the command runs in it as the user UID. Prints one
JSON object.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request

from tests.fakes import astronaut, encoded
from tests.running import find_free_port, wait_until_ready


def main() -> None:
    """Prints `ready_s`, `face_s` and what the file system says to who would write."""
    root, uid, environment, *command = sys.argv[1:]
    for mount in (
        ["--bind", root, root],
        ["--options", "remount,bind,ro", root],
        ["--types", "proc", "proc", f"{root}/proc"],
        ["--rbind", "/dev", f"{root}/dev"],
    ):
        subprocess.run(["mount", *mount], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    port = find_free_port()
    photo = encoded(astronaut(), "jpeg")
    environ = json.loads(environment) | {"EYE2FACE_PORT": str(port), "EYE2FACE_ALLOW_ANONYMOUS": "true"}
    chroot = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin")
    assert chroot is not None
    inside = [chroot, f"--userspec={uid}", root]
    write = subprocess.run([*inside, "touch", "/tmp/x"], capture_output=True, text=True, check=False)
    begin = time.monotonic()
    with subprocess.Popen([*inside, *command], env=environ, stdout=sys.stderr, stderr=sys.stderr) as serving:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", serving, every_s=0.01)
            ready_s = time.monotonic() - begin
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/synthesize", photo, {"Content-Type": "image/jpeg"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.read(4) == b"\x89PNG"
            face_s = time.monotonic() - begin
        finally:
            serving.terminate()
    told = {"ready_s": ready_s, "face_s": face_s, "write": write.stderr}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
