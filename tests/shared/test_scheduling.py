"""The AV1 encoder gives its caller real-time priority where that is permitted; here it may not."""

import subprocess
import sys

ENCODE = """
import os, sys
import av, numpy as np
from emu_robot.shared.scheduling import forbid_realtime
forbid_realtime()
with av.open(sys.argv[1], "w") as container:
    stream = container.add_stream("libsvtav1", rate=20)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    container.mux(stream.encode(picture))
    found = {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
    container.mux(stream.encode())
print(sorted(found))
"""


def test_an_encoder_cannot_raise_the_priority_of_its_process(tmp_path):
    command = [sys.executable, "-c", ENCODE, str(tmp_path / "film.mp4")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[0]"
